"""Memory for weights that are read from beginning to end at every step."""

import mmap
from ctypes import addressof, c_char

# Many times a large page, so that what is lost at the ends is little.
_PIECE_BYTES = 64 << 20
_ALIGNMENT = 64  # bytes: a line of the cache


class Arena:
    """Zeros, on pages of 2 MiB where the kernel has them; given back when nobody has the arena.

    With pages of 4 KiB one row of a Llama of 30 layers took half as long again, because what the
    processor reads ahead ends with a page. Memory that is never written is never taken.
    """

    def __init__(self) -> None:
        self._pieces: list[mmap.mmap] = []
        self._next = self._end = 0
        self.used_bytes = 0

    def take(self, size: int) -> int:
        """The address of as many bytes, where a line of the cache begins."""
        size += -size % _ALIGNMENT
        if self._next + size > self._end:
            self._add_piece(max(size, _PIECE_BYTES))
        address = self._next
        self._next += size
        self.used_bytes += size
        return address

    def _add_piece(self, size: int) -> None:
        piece = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        piece.madvise(mmap.MADV_HUGEPAGE)
        self._pieces.append(piece)
        self._next = addressof(c_char.from_buffer(piece))
        self._end = self._next + size
