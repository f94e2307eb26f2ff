"""How fast kdxai is, on its own and beside the PyTorch libraries that do the same.

`tasks` are pieces of kdxai's own work, `peers` the same work done by others on the same weights and
images. `run` times them in turns in one process and checks that their results agree; `report`
writes what it found.
"""
