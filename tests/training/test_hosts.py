"""What one process can see of several; tests/launch/test_train_hosts.py runs two."""

import socket

import jax
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.training import config, feed, hosts, runs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 2, 0, False), "give either all of --coordinator"),
        ((None, None, 0, True), "give either all of --coordinator"),
        (("here", 2, 0, False), "HOST:PORT of process 0, not 'here'"),
        (("here:1", 2, 2, False), "one of 0 to 1 for --processes=2, not 2"),
        (("here:99999", 2, 0, False), "port 99999 of this host cannot be used"),
    ],
)
def test_no_way_to_meet(arguments, message):
    with pytest.raises(UserError, match=message), hosts.connected(*arguments):
        raise AssertionError("it ran")


def test_a_port_in_use():
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        coordinator = f"localhost:{other.getsockname()[1]}"
        with pytest.raises(UserError, match="choose another"):
            hosts.require_free(coordinator, 2, 0)
        hosts.require_free(coordinator, 2, 1)


@pytest.mark.parametrize(
    ("name", "known_as", "listens_on"),
    [
        ("localhost", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("node7", "10.1.2.3", "10.1.2.3"),
        ("node7", "127.0.1.1", "0.0.0.0"),  # as Debian has a host know itself
        ("node7", "fe80::1%eth0", "fe80::1%eth0"),
        ("::1", "::1", "::1"),
    ],
)
def test_process_0_listens_where_the_others_look_for_it(monkeypatch, name, known_as, listens_on):
    found = [(None, socket.SOCK_STREAM, 6, "", (known_as, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: found)
    assert hosts.interface(name) == listens_on


def test_jax_is_told_to_listen_there_alone(monkeypatch):
    told = []
    monkeypatch.setattr(hosts, "say_on_abort", lambda *_: None)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: told.append((a, k)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    for process in (0, 1):
        hosts.meet(coordinator, 2, process)
    assert [arguments for arguments, _ in told] == [(coordinator, 2, 0), (coordinator, 2, 1)]
    addresses = [options["coordinator_bind_address"] for _, options in told]
    assert addresses == [coordinator.replace("localhost", "127.0.0.1"), None]


def test_alone_everything_is_trivial():
    with hosts.connected(None, None, None, False):
        assert hosts.is_first()
        assert not hosts.stop_at(1)
        assert hosts.gather("text") == ["text"]
        assert hosts.first_says({"a": float("inf")}) == {"a": float("inf")}
        with pytest.raises(UserError, match="^as it was$"), hosts.together():
            raise UserError("as it was")


def test_the_shares_of_all_processes_are_the_batch(monkeypatch):
    batch = np.arange(24).reshape(12, 2)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    shares = []
    for process in range(3):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        shares.append(feed.process_share(batch))
    assert {share.shape for share in shares} == {(2, 2, 2)}
    np.testing.assert_array_equal(np.concatenate(shares).reshape(12, 2), batch)


def test_hosts_that_do_not_know_of_each_other_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)  # as on one host of a TPU pod
    with pytest.raises(UserError, match="one host of several"):
        runs.claim_directory(tmp_path / "run", config.default())
    assert not (tmp_path / "run").exists()
