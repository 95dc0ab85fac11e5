"""CRC-32 of data that is never in memory as a whole: of two parts joined, and of one repeated.

The method is zlib's own `crc32_combine` (crc32.c): appending n bytes multiplies a CRC by x^(8n) modulo the
CRC's polynomial over GF(2). Numbers are bit-reflected: x^0 is the highest bit.
"""

from functools import lru_cache

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31
_X8 = 1 << 23


def joined(first: int, second: int, second_bytes: int) -> int:
    """The CRC of two parts, from their CRCs and the second one's length."""
    return _product(_shift(second_bytes), first) ^ second


def repeated(crc: int, size: int, times: int) -> int:
    """The CRC of `size` bytes whose CRC is `crc`, repeated `times`."""
    step = _shift(size)
    total, shift = 0, _ONE
    for bit in f"{times:b}":
        total, shift = _product(shift, total) ^ total, _product(shift, shift)
        if bit == "1":
            total, shift = _product(step, total) ^ crc, _product(step, shift)
    return total


@lru_cache(maxsize=256)
def _shift(size: int) -> int:
    """x^(8 * size): the factor for appending `size` bytes."""
    power, square = _ONE, _X8
    while size:
        if size & 1:
            power = _product(power, square)
        square = _product(square, square)
        size >>= 1
    return power


def _product(left: int, right: int) -> int:
    product = 0
    while left:
        if left & _ONE:
            product ^= right
        left = left << 1 & 0xFFFFFFFF
        right = right >> 1 ^ _POLYNOMIAL if right & 1 else right >> 1
    return product
