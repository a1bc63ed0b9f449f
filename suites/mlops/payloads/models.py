"""The two networks of the plan, in any width: a small one for digits, and a residual one."""

import hashlib

import torch
from torch import nn


def cnn(channels: int, size: int, width: int) -> nn.Module:
    """Two convolutions and two full layers; of width 32 on MNIST: conv32, conv64, fc128, fc10 (MLOPS-1.1)."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (size // 2) ** 2, 4 * width),
        nn.ReLU(),
        nn.Linear(4 * width, 10),
    )


class Block(nn.Module):
    """Two convolutions beside a short cut (He et al., 2015, figure 2)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.short = nn.Sequential()
        if stride != 1 or channels != width:
            self.short = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From n × channels × h × w to n × width × h/stride × w/stride."""
        return torch.relu(self.body(images) + self.short(images))


def resnet(channels: int, size: int, width: int) -> nn.Module:  # noqa: ARG001  any size will do
    """ResNet-18 for small images when ``width`` is 64: no pooling before the blocks, eight blocks in four stages."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    before = width
    for stage in range(4):
        for stride in (1 if stage == 0 else 2, 1):
            layers.append(Block(before, width * 2**stage, stride))
            before = width * 2**stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def make(name: str, channels: int, size: int, width: int) -> nn.Module:
    """The network ``name`` for images of ``channels`` × ``size`` × ``size``."""
    return {"cnn": cnn, "resnet": resnet}[name](channels, size, width)


def digest(model: nn.Module) -> str:
    """SHA-256 of all parameters, bit by bit."""
    whole = hashlib.sha256()
    for parameter in model.parameters():
        whole.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


@torch.no_grad()
def right(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, batch: int = 256) -> int:
    """How many of the images are told right; ``batch`` at a time, in the memory that training takes anyway."""
    model.eval()
    pairs = zip(images.split(batch), labels.split(batch), strict=True)
    return sum(int((model(some).argmax(1) == wanted).sum()) for some, wanted in pairs)
