"""Data sets as tensors, from the files that are published: digits, MNIST and CIFAR-10, training and held-out parts."""

import gzip
import io
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path

import torch

#: The digits that scikit-learn brings, in a random order that never changes; their last part is held out.
DIGITS, DIGITS_TRAINING, DIGITS_ORDER = 1797, 1440, 20180322


@dataclass(frozen=True)
class Data:
    """Images as floats of mean 0 and deviation 1 (n × channels × height × width), and their labels (n)."""

    images: torch.Tensor
    labels: torch.Tensor
    held_out_images: torch.Tensor
    held_out_labels: torch.Tensor

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.images.shape[1])

    @property
    def size(self) -> int:
        """Height and width of an image."""
        return int(self.images.shape[2])

    def to(self, device: torch.device) -> "Data":
        """The same on a device."""
        return Data(*(one.to(device) for one in vars(self).values()))


def load(name: str, folder: Path) -> Data:
    """The data set ``name`` from the files in ``folder``, as they are published."""
    parts = {"digits": digits, "mnist": mnist, "cifar10": cifar10}[name](folder)
    images, labels, held_out, held_out_labels = parts
    mean, deviation = images.mean(dim=(0, 2, 3), keepdim=True), images.std(dim=(0, 2, 3), keepdim=True)
    for some in (images, held_out):  # in place: a copy of MNIST's takes 190 MB
        some.sub_(mean).div_(deviation)
    return Data(images, labels, held_out, held_out_labels)


def digits(folder: Path) -> tuple[torch.Tensor, ...]:
    """``digits.csv.gz`` of scikit-learn (UCI's optdigits.tes): 64 points of 0 to 16 and a label, a line an image."""
    text = gzip.decompress((folder / "digits.csv.gz").read_bytes()).decode()
    rows = torch.tensor([[float(word) for word in line.split(",")] for line in text.split()])
    if rows.shape != (DIGITS, 65):
        raise ValueError(f"{folder}/digits.csv.gz has the shape {tuple(rows.shape)}, expected ({DIGITS}, 65)")
    rows = rows[torch.randperm(DIGITS, generator=torch.Generator().manual_seed(DIGITS_ORDER))]
    images, labels = (rows[:, :64] / 16).reshape(-1, 1, 8, 8), rows[:, 64].long()
    return images[:DIGITS_TRAINING], labels[:DIGITS_TRAINING], images[DIGITS_TRAINING:], labels[DIGITS_TRAINING:]


def mnist(folder: Path) -> tuple[torch.Tensor, ...]:
    """The four gzipped IDX files of MNIST."""
    found = []
    for part in ("train", "t10k"):
        images = idx((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
        found += [
            images.unsqueeze(1).float().div_(255),
            idx((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()).long(),
        ]
    return tuple(found)


def idx(packed: bytes) -> torch.Tensor:
    """An IDX file of bytes: two zeros, 8 for bytes, the number of dimensions, each as a big-endian number, the data."""
    raw = gzip.decompress(packed)
    zeros, kind, dimensions = struct.unpack_from(">HBB", raw)
    if zeros or kind != 8:
        raise ValueError(f"not an IDX file of bytes: it begins with {raw[:4].hex()}")
    shape = struct.unpack_from(f">{dimensions}I", raw, 4)
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=4 + 4 * dimensions).reshape(shape)


def cifar10(folder: Path) -> tuple[torch.Tensor, ...]:
    """The binary version of CIFAR-10: a label and 3 × 32 × 32 bytes an image, five files to train and one held out."""
    batches: dict[str, torch.Tensor] = {}
    with tarfile.open(folder / "cifar-10-binary.tar.gz") as archive:
        for member in archive:
            if member.name.endswith(".bin"):
                raw = torch.frombuffer(bytearray(_content(archive, member)), dtype=torch.uint8)
                batches[Path(member.name).name] = raw.reshape(-1, 3073)
    training = torch.cat([batches[f"data_batch_{number}.bin"] for number in range(1, 6)])
    return *_images(training), *_images(batches["test_batch.bin"])


def _images(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return rows[:, 1:].reshape(-1, 3, 32, 32).float().div_(255), rows[:, 0].long()


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return (file or io.BytesIO()).read()
