"""Which lines of a batch have their outcome: one bit a line, kept small by leaving out the full prefix. Pure."""

from __future__ import annotations

import base64
import zlib


class Bitmap:
    """Lines 1 to `total`. Every line up to `low` is done; `low` only grows."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.low = 0
        self.count = 0
        self._bits = bytearray((total + 7) // 8)
        self._top = 0

    def __contains__(self, line: int) -> bool:
        return line <= self.low or bool(self._bits[(line - 1) >> 3] & (1 << ((line - 1) & 7)))

    def add(self, line: int) -> bool:
        """Whether `line` was new; from then on it is done. Raises ValueError outside 1 to total."""
        if not 1 <= line <= self.total:
            raise ValueError(f"line {line} is not within 1 to {self.total}")
        at, bit = (line - 1) >> 3, 1 << ((line - 1) & 7)
        if self._bits[at] & bit:
            return False
        self._bits[at] |= bit
        self.count += 1
        self._top = max(self._top, line)
        if line == self.low + 1:
            self._advance()
        return True

    @property
    def full(self) -> bool:
        """Whether every line is done."""
        return self.count == self.total

    def _advance(self) -> None:
        low = self.low + 1
        while low < self.total:
            if low & 7 == 0 and self._bits[low >> 3] == 0xFF:
                low = min(low + 8, self.total)
            elif self._bits[low >> 3] & (1 << (low & 7)):
                low += 1
            else:
                break
        self.low = low

    def encode(self) -> str:
        """`low`, a colon, and the bytes from there to the highest line, compressed, in base64."""
        rest = bytes(self._bits[self.low >> 3 : (self._top + 7) >> 3])
        return f"{self.low}:{base64.b64encode(zlib.compress(rest, 1)).decode()}"

    @staticmethod
    def low_of(text: str) -> int:
        """`low` of the bitmap that `encode` wrote."""
        return int(text.partition(":")[0] or 0)

    @classmethod
    def decode(cls, text: str, total: int) -> Bitmap:
        """The bitmap that `encode` wrote; an empty text is an empty one. Raises ValueError on other text."""
        bitmap = cls(total)
        if not text:
            return bitmap
        low, _, rest = text.partition(":")
        start = int(low)
        data = zlib.decompress(base64.b64decode(rest))
        bits = bitmap._bits
        bits[: start >> 3] = b"\xff" * (start >> 3)
        bits[start >> 3 : (start >> 3) + len(data)] = data
        if start & 7:
            bits[start >> 3] |= (1 << (start & 7)) - 1
        bitmap.low = start
        bitmap.count = int.from_bytes(bits, "little").bit_count()
        bitmap._top = int.from_bytes(bits, "little").bit_length()
        return bitmap
