"""Joins thin Mach-O files of different architectures into one: universal.py RESULT SLICE...

The format (mach-o/fat.h): a big-endian header with one entry a slice, each slice on its page boundary.
"""
import pathlib
import struct
import sys

FAT_MAGIC = 0xCAFEBABE
MH_MAGIC_64 = 0xFEEDFACF
# log2 of the page size by CPU type: arm64 has pages of 16 KiB, x86-64 of 4 KiB.
ALIGNMENT = {0x0100000C: 14, 0x01000007: 12}


def join(slices):
    """The universal file of these thin ones."""
    entries, place = [], 8 + 20 * len(slices)
    for content in slices:
        magic, cpu, subtype = struct.unpack_from("<III", content)
        if magic != MH_MAGIC_64 or cpu not in ALIGNMENT:
            raise SystemExit(f"not a thin 64-bit Mach-O file of a Mac: magic {magic:#x}, CPU {cpu:#x}")
        step = 1 << ALIGNMENT[cpu]
        place = (place + step - 1) // step * step
        entries.append((cpu, subtype, place, len(content), ALIGNMENT[cpu]))
        place += len(content)
    if len({entry[0] for entry in entries}) != len(entries):
        raise SystemExit("two slices of one architecture")
    whole = bytearray(struct.pack(">II", FAT_MAGIC, len(slices)))
    for entry in entries:
        whole += struct.pack(">IIIII", *entry)
    for (_, _, place, _, _), content in zip(entries, slices):
        whole += bytes(place - len(whole)) + content
    return bytes(whole)


def main():
    result, *slices = map(pathlib.Path, sys.argv[1:])
    result.write_bytes(join([path.read_bytes() for path in slices]))


if __name__ == "__main__":
    main()
