"""A file of integer latents: one signal as a codec stored it, the coarse stage first.

    file    = header, payload, ..., payload
    header  = "WaLC" version, size of the header, codec, signal, stage, ..., stage, CRC-32
    signal  = kind, dtype, axes, stages, mode, rate, channels, scale?, [gain, mean], size and
              padding in front of each axis
    stage   = container, bits, channels, grid, size of the payload
    payload = of one stage, as `containers.pack` writes it, with a CRC-32 of its own

So the header can be read alone, and a file that breaks off after a payload still gives the stages
before. `codec` is the first 16 bytes of the fingerprint. The version is a byte, the header's size a
uint16, the CRC-32 (of all that stands before it) a uint32, gain and mean are float64 and there
where they are not 1 and 0, all with the lowest byte first. Every other number is a varint: 7 bits a
byte, the lowest first, and the highest bit says that more follow. Kind, dtype and container are
numbers in the order of their lists; `mode` is its length and ASCII; `rate` and
`channels` are 0 where there are none. `bits` are what the widest value of a stage needs, with its
sign.
"""

import struct
import zlib
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from attar.coding.containers import CONTAINERS, Container, choose, pack, unpack
from attar.coding.latents import LONGEST, Described, Dtype, Form, Kind, Latents
from attar.errors import ConfigError, DataError, require

VERSION = 1

_MAGIC = b"WaLC"
_START = struct.Struct("<4sBH16s")
_SCALE = struct.Struct("<dd")
_CRC = struct.Struct("<I")


@dataclass(frozen=True)
class _Stage:
    container: Container
    bits: int
    shape: tuple[int, ...]
    start: int
    end: int


def to_bytes(latents: Latents, *, container: str = "auto") -> bytes:
    """The file of some latents.

    Args:
        latents: as a codec made them.
        container: how the integers are stored; "auto": JPEG-LS where pillow-jpls is installed,
            else lossless WebP.

    Raises:
        ConfigError: there is no such container.
        MissingExtraError: the package of the container is not installed.
    """
    chosen = choose(container)
    payloads = [pack(stage, container=chosen) for stage in latents.stages]
    form, mode = latents.form, latents.form.mode.encode()
    kind, dtype = get_args(Kind).index(form.kind), get_args(Dtype).index(form.dtype)
    scaled = (latents.gain, latents.mean) != (1.0, 0.0)
    parts = [
        _varints(kind, dtype, len(latents.size), len(payloads), len(mode)),
        mode,
        _varints(form.rate or 0, form.channels or 0, scaled),
        _SCALE.pack(latents.gain, latents.mean) if scaled else b"",
        *(_varints(*axis) for axis in zip(latents.size, latents.before, strict=True)),
    ]
    for stage, payload in zip(latents.stages, payloads, strict=True):
        parts.append(_varints(CONTAINERS.index(chosen), _bits(stage), *stage.shape, len(payload)))
    fields = b"".join(parts)
    size = _START.size + len(fields) + _CRC.size
    head = _START.pack(_MAGIC, VERSION, size, bytes.fromhex(latents.codec)) + fields
    return b"".join([head, _CRC.pack(zlib.crc32(head)), *payloads])


def from_bytes(data: bytes, *, name: str, stages: int | None = None) -> Latents:
    """The latents of a file.

    Args:
        data: the file, or as much of it as holds the stages.
        name: of the file, for messages.
        stages: read so many, the coarse ones; None: all, and nothing may follow.

    Raises:
        DataError: it is no such file, of another version, damaged, or breaks off.
        ConfigError: it was made with fewer stages.
        MissingExtraError: the package of its container is not installed.
    """
    signal, table = _read_header(data, name=name)
    if stages is not None:
        require(0 < stages <= len(table), "stages", stages, f"1 to {len(table)}, as {name} has")
    elif len(data) > table[-1].end:
        raise DataError(
            f"expected {name} to end after {table[-1].end:,} bytes, found {len(data):,}; take "
            "another copy of the file"
        )
    arrays = list[NDArray[np.int16]]()
    for stage in table[:stages]:
        if stage.end > len(data):
            whole = sum(one.end <= len(data) for one in table)
            raise DataError(
                f"{name} breaks off: {whole} of its {len(table)} stages are whole; take another "
                "copy of the file" + (f", or ask for stages={whole}" if whole else "")
            )
        payload = data[stage.start : stage.end]
        values = unpack(payload, container=stage.container, shape=stage.shape, name=name)
        if _bits(values) != stage.bits:
            raise DataError(
                f"expected latents of {stage.bits} bits in {name}, as its header says, found "
                f"{_bits(values)}; make the file again"
            )
        arrays.append(values)
    return Latents(stages=tuple(arrays), **vars(signal))


def describe(data: bytes, *, name: str) -> dict[str, Any]:
    """What a file says of itself; only its header is read.

    Args:
        data: the file, or its beginning.
        name: of the file, for messages.

    Returns:
        `version`; the fields of `Latents`, `form` as a dict; for each of `stages` its container,
        bits, shape (c, *grid) and bytes.

    Raises:
        DataError: it is no such file, of another version, or its header is damaged.
    """
    signal, table = _read_header(data, name=name)
    stages = [
        {
            "container": stage.container,
            "bits": stage.bits,
            "shape": stage.shape,
            "bytes": stage.end - stage.start,
        }
        for stage in table
    ]
    return {"version": VERSION, **asdict(signal), "stages": stages}


def form_of(data: bytes, *, name: str) -> Form:
    """What a file's latents stand for; only its header is read.

    Raises:
        DataError: as `describe`.
    """
    return _read_header(data, name=name)[0].form


def _bits(values: NDArray[np.int16]) -> int:
    """Of the widest value, with its sign."""
    ends = int(values.min()), int(values.max())
    return 1 + max((~end if end < 0 else end).bit_length() for end in ends)


def _varints(*numbers: int) -> bytes:
    out = bytearray()
    for number in numbers:
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        out.append(number)
    return bytes(out)


class _Fields:
    """The fields of a header, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def raw(self, size: int) -> bytes:
        taken, self.rest = self.rest[:size], self.rest[size:]
        if len(taken) < size:
            raise ValueError("it breaks off")
        return taken

    def number(self) -> int:
        number = shift = 0
        while shift < LONGEST:
            (byte,) = self.raw(1)
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number
        raise ValueError("it holds a number that is too large")

    def numbers(self, count: int) -> tuple[int, ...]:
        return tuple(self.number() for _ in range(count))


def _read_header(data: bytes, *, name: str) -> tuple[Described, list[_Stage]]:
    """What the header says, if it is whole.

    Raises:
        DataError: it is not.
    """
    if data[:4] != _MAGIC:
        raise DataError(
            f"expected a file that attar codec encode wrote, found {name}, which begins with "
            f"{bytes(data[:4])!r}; give the compressed file"
        )
    damaged = f"the header of {name} is damaged; take another copy of the file"
    if len(data) < _START.size:
        raise DataError(damaged)
    _, version, size, codec = _START.unpack_from(data)
    if version != VERSION:
        raise DataError(
            f"expected version {VERSION} of the format, found {version} in {name}; read it with "
            "the version of Attar that wrote it"
        )
    head, crc = data[: size - _CRC.size], data[size - _CRC.size : size]
    if crc != _CRC.pack(zlib.crc32(head)):
        raise DataError(damaged)
    try:
        return _parsed(_Fields(head[_START.size :]), codec=codec, end=size)
    except (ValueError, IndexError, ConfigError) as error:
        raise DataError(
            f"the header of {name} says what cannot be ({error}); make the file again"
        ) from error


@lru_cache(maxsize=64)
def _form(*, kind: int, dtype: int, mode: str, rate: int, channels: int) -> Form:
    """The form of these fields, of which a data set has few."""
    return Form(
        kind=get_args(Kind)[kind],
        dtype=get_args(Dtype)[dtype],
        mode=mode,
        rate=rate or None,
        channels=channels or None,
    )


def _parsed(fields: _Fields, *, codec: bytes, end: int) -> tuple[Described, list[_Stage]]:
    kind, dtype, axes, count, letters = fields.numbers(5)
    mode = fields.raw(letters).decode("ascii")
    rate, channels, scaled = fields.numbers(3)
    gain, mean = _SCALE.unpack(fields.raw(_SCALE.size)) if scaled else (1.0, 0.0)
    pairs = [fields.numbers(2) for _ in range(axes)]
    signal = Described(
        size=tuple(size for size, _ in pairs),
        before=tuple(before for _, before in pairs),
        form=_form(kind=kind, dtype=dtype, mode=mode, rate=rate, channels=channels),
        codec=codec.hex(),
        gain=gain,
        mean=mean,
    )
    table = list[_Stage]()
    for _ in range(count):
        container, bits, *shape, size = fields.numbers(axes + 4)
        table.append(_Stage(CONTAINERS[container], bits, tuple(shape), end, end + size))
        end += size
    if fields.rest or not table:
        raise ValueError("it is too long, or without stages")
    return signal, table
