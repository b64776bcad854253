"""Table 4 of the ALR paper (arXiv 2403.12320): accuracy and stability of gradient estimates, ResNet-5 on CIFAR-10."""

from collections.abc import Mapping

COLUMNS = ("LR", "ALR", "ES", "AES", "Hybrid", "A-Hybrid")

ACC: Mapping[str, float] = {"LR": 0.36, "ALR": 0.34, "ES": 0.22, "AES": 0.18, "Hybrid": 0.42, "A-Hybrid": 0.39}
STA: Mapping[str, float] = {"LR": 0.21, "ALR": 0.16, "ES": 0.06, "AES": 0.05, "Hybrid": 0.18, "A-Hybrid": 0.13}

SETUP = (
    "ResNet-5 on CIFAR-10, 10 experiments, up to 2,000 copies; state of training, sigma and baseline are not printed"
)

METHODS: Mapping[str, str] = {
    "LR": "lr",
    "ALR": "alr",
    "ES": "es",
    "AES": "aes",
    "Hybrid": "hybrid",
    "A-Hybrid": "a-hybrid",
}
"""The method's name here, by column."""
