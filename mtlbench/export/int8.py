"""An exported ONNX file in int8: onnxruntime quantises convolutions and products, calibrated with training images."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mtlbench.data.decoding import Pixels
from mtlbench.errors import UserError, first_line

IMAGES = 128  # of the training split, by which the ranges of activations are found
_BATCH = 16
_QUANTISED = ["Conv", "MatMul", "Gemm"]


def quantise(file: Path, images: Pixels, method: str) -> None:
    """Quantise a float32 ONNX file in place, statically: weights of each channel, activations by their ranges.

    Their biases become 32-bit integers. Preprocessing and what lies between convolutions and products stay in float32,
    as do a method's scales.

    Args:
        file: takes (n, H, W, 3) uint8 as `images`.
        images: (n, H, W, 3) uint8, of the training split.
        method: for messages.

    Raises:
        UserError: onnxruntime can't quantise this network.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        """Gives the images batch by batch."""

        def __init__(self) -> None:
            self.batches = iter(np.array_split(images, max(len(images) // _BATCH, 1)))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    about = list(onnx.load(str(file)).metadata_props)
    made = file.with_name(f"quantised-{file.name}")
    try:
        with _silent():
            quantize_static(
                str(file),
                str(made),
                Images(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_QUANTISED,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    except Exception as error:  # of many kinds, from several libraries
        words = f"{method} can't be quantised ({first_line(error)}). Export it with --precision fp16."
        raise UserError(words) from error
    model = onnx.load(str(made))
    del model.metadata_props[:]
    model.metadata_props.extend(about)
    onnx.save(model, str(file))
    made.unlink()


@contextmanager
def _silent() -> Iterator[None]:
    """Keep onnxruntime's remarks on its own preprocessing off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def sampled(files: Sequence[Path]) -> list[Path]:
    """Return up to `IMAGES` of the training images, evenly spread over their list."""
    chosen = np.linspace(0, len(files) - 1, min(IMAGES, len(files))).round().astype(int)
    return [files[i] for i in dict.fromkeys(chosen.tolist())]
