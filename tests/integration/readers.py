#!/usr/bin/python3
"""Run inside the image that trains: the data sets of full scale are read as they are published, in small; networks."""

import gzip
import io
import struct
import tarfile
import tempfile
from pathlib import Path

import torch
from data import load
from graphs import graphed
from models import digest, make, right


def idx(shape: tuple[int, ...], content: bytes) -> bytes:
    """An IDX file of bytes, gzipped."""
    return gzip.compress(struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + content)


def mnist(folder: Path) -> None:
    """Six and two images, each of one grey, and their labels."""
    for part, count in (("train", 6), ("t10k", 2)):
        content = b"".join(bytes([40 * number]) * 784 for number in range(count))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx((count, 28, 28), content))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx((count,), bytes(range(count))))
    found = load("mnist", folder)
    assert found.images.shape == (6, 1, 28, 28), found.images.shape
    assert found.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.held_out_images.shape == (2, 1, 28, 28)
    assert abs(float(found.images.mean())) < 1e-5
    assert abs(float(found.images.std()) - 1) < 1e-3
    assert found.images[0, 0, 0, 0] < found.images[5, 0, 0, 0]
    assert make("cnn", found.channels, found.size, 32)(found.images).shape == (6, 10)


def cifar10(folder: Path) -> None:
    """Five files of two images and one held out, whose channels differ."""
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for number, name in enumerate([*(f"data_batch_{n}.bin" for n in (3, 1, 2, 5, 4)), "test_batch.bin"]):
            record = bytes([number]) + bytes([10]) * 1024 + bytes([100]) * 1024 + bytes([20 * number]) * 1024
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = 2 * len(record)
            archive.addfile(member, io.BytesIO(record * 2))
    found = load("cifar10", folder)
    assert found.images.shape == (10, 3, 32, 32), found.images.shape
    assert found.labels.tolist() == [1, 1, 2, 2, 0, 0, 4, 4, 3, 3], "in the order of the files' numbers"
    assert found.held_out_labels.tolist() == [5, 5]


def networks() -> None:
    """They are those of the plan: so many parameters have the plan's CNN and ResNet-18 for 32 × 32 points."""
    counts = [sum(one.numel() for one in make(*words).parameters()) for words in (("cnn", 1, 28, 32), ("resnet", 3, 32, 64))]  # noqa: E501  # fmt: skip
    assert counts == [1_625_866, 11_173_962], counts
    model = make("cnn", 1, 8, 4)
    before = digest(model)
    assert before == digest(model)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-3
    assert before != digest(model)
    images = torch.randn(5, 1, 8, 8)
    assert right(model, images, model(images).argmax(1), batch=2) == 5


def graphs() -> None:
    """Whole batches go by the graph, what is left of an epoch as before; its warm-up leaves no trace in the network."""

    def captured(module: torch.nn.Module, sample: tuple[torch.Tensor]) -> None:
        plain = module.forward
        plain(*sample)
        module.forward = lambda images: 0 * plain(images) + 7  # type: ignore[method-assign]  # as torch does

    torch.cuda.make_graphed_callables = captured  # type: ignore[assignment]  # no GPU is here
    model, batch = make("resnet", 1, 8, 4), torch.randn(4, 1, 8, 8)
    before = [buffer.clone() for buffer in model.buffers()]
    graphed(model, batch)
    assert all(torch.equal(*pair) for pair in zip(before, model.buffers(), strict=True))
    assert (model(torch.randn(4, 1, 8, 8)) == 7).all()
    assert not (model(torch.randn(3, 1, 8, 8)) == 7).any()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        mnist(Path(made))
        cifar10(Path(made))
    networks()
    graphs()
    print("all is well")
