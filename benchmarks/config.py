"""How fast kdxai explains and measures, per image.

    python benchmarks --config benchmarks/config.py --workdir runs/speed

ResNet-18 with a 3x3 stem and 10 classes on 32x32 images, in float32. Training, explaining, loading,
starting, and the ceiling: a large matrix product and a large copy.

    python benchmarks --config benchmarks/config.py --config.peers=True \
        --workdir runs/speed-peers

Side by side with PyTorch libraries on the same weights and images, in one process and in turns.
Needs `pip install -e '.[bench]'` and a machine with nothing else to do: where it is busy, PyTorch's
threads wait for each other. Measured in docs/results/speed-cpu.md: on two cores Grad-CAM 3.0 and
ADCC 7.1 times as fast, deletion and Score-CAM 1.0 times; six minutes.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            # Names in benchmarks.tasks.TASKS.
            "tasks": "matmul,copy,forward,train_step,distillation_step,distillation_step_cached,"
            "data,start,"
            "cam,grad_cam,adcc,deletion,perturbation,score_cam",
            "dtype": "float32",  # or bfloat16
            "peers": False,
            "run": "",  # a model directory: its weights and test images
            "model": "resnet18",  # without a run: fresh weights, and images of `shapes`
            "images": 64,  # the batch, at least; the devices divide it
            "few": 2,  # the batch of tasks that take hundreds of forward passes per image
            "repeats": 5,  # calls timed after one to warm up; the median counts
            "limit": 120.0,  # seconds that a peer has for its first call
            "seed": 0,  # of the fresh weights and the images
        }
    )
