"""Reads linked Mach-O files, as far as the tests look into them: load commands, sections, symbols, fixups.

Everything it knows is in Apple's mach-o/loader.h, mach-o/fat.h and mach-o/nlist.h. It raises `Malformed` for
what it does not know rather than passing over it, so that a linker that writes fixups in another way makes
a test fail and not look at nothing.
"""
import struct
from dataclasses import dataclass, field

ARM64, X86_64 = 0x0100000C, 0x01000007
NAMES = {ARM64: "arm64", X86_64: "x86_64"}

FAT_MAGIC = 0xCAFEBABE
MH_MAGIC_64 = 0xFEEDFACF
LC_REQ_DYLD = 0x80000000
LC_SEGMENT_64, LC_SYMTAB, LC_UUID = 0x19, 0x2, 0x1B
LC_ID_DYLIB, LC_LOAD_DYLIB, LC_RPATH = 0xD, 0xC, 0x1C | LC_REQ_DYLD
LC_CODE_SIGNATURE, LC_BUILD_VERSION = 0x1D, 0x32
LC_DYLD_INFO, LC_DYLD_INFO_ONLY = 0x22, 0x22 | LC_REQ_DYLD
LC_DYLD_CHAINED_FIXUPS = 0x34 | LC_REQ_DYLD
LC_LOAD_WEAK_DYLIB, LC_REEXPORT_DYLIB = 0x18 | LC_REQ_DYLD, 0x1F | LC_REQ_DYLD

N_STAB, N_TYPE, N_EXT, N_UNDF = 0xE0, 0x0E, 0x01, 0x0


class Malformed(Exception):
    """The file is not what this reader knows."""


@dataclass(frozen=True)
class Section:
    segment: str
    name: str
    address: int
    size: int

    def __contains__(self, address):
        return self.address <= address < self.address + self.size


@dataclass(frozen=True)
class Segment:
    name: str
    address: int
    size: int
    content: bytes


@dataclass(frozen=True)
class Bind:
    symbol: str
    library: str
    addend: int


@dataclass
class Image:
    """One slice."""

    cpu: int
    file_type: int = 0
    segments: list = field(default_factory=list)
    sections: list = field(default_factory=list)
    identity: str = ""
    libraries: list = field(default_factory=list)
    rpaths: list = field(default_factory=list)
    minimum: tuple = ()
    signed: bool = False
    undefined: set = field(default_factory=set)
    defined: dict = field(default_factory=dict)
    exported: set = field(default_factory=set)
    debug_names: list = field(default_factory=list)
    rebases: set = field(default_factory=set)
    binds: dict = field(default_factory=dict)
    content: bytes = b""

    @property
    def architecture(self):
        return NAMES[self.cpu]

    def section(self, name):
        found = [section for section in self.sections if section.name == name]
        if len(found) > 1:
            raise Malformed(f"{len(found)} sections {name}")
        return found[0] if found else None

    def pointer(self, address):
        """The 64-bit word in the file that is loaded to `address`."""
        for segment in self.segments:
            at = address - segment.address
            if 0 <= at <= len(segment.content) - 8:
                return struct.unpack_from("<Q", segment.content, at)[0]
        raise Malformed(f"no content at {address:#x}")

    def interpose_tuples(self):
        """(replacement's address, what the replacee is bound to) of each tuple dyld would read.

        dyld takes an interposing tuple for two pointers: the first must be a rebase into this image, the
        second a bind. Anything else is an error here.
        """
        section = self.section("__interpose")
        if section is None:
            return []
        if section.size % 16:
            raise Malformed(f"__interpose has {section.size} bytes, no multiple of a tuple")
        tuples = []
        for address in range(section.address, section.address + section.size, 16):
            if address not in self.rebases or address in self.binds:
                raise Malformed(f"tuple at {address:#x}: the replacement is no rebase")
            if address + 8 not in self.binds or address + 8 in self.rebases:
                raise Malformed(f"tuple at {address:#x}: the replacee is no bind")
            tuples.append((self.pointer(address), self.binds[address + 8]))
        return tuples


def read(path):
    """Every slice of a file, by architecture."""
    with open(path, "rb") as file:
        content = file.read()
    (magic,) = struct.unpack_from(">I", content)
    if magic != FAT_MAGIC:
        image = _image(content)
        return {image.architecture: image}
    images = {}
    (count,) = struct.unpack_from(">I", content, 4)
    for index in range(count):
        cpu, _, offset, size, align = struct.unpack_from(">IIIII", content, 8 + 20 * index)
        if offset % (1 << align):
            raise Malformed(f"slice at {offset:#x} is not aligned to 2^{align}")
        image = _image(content[offset : offset + size])
        if image.cpu != cpu:
            raise Malformed(f"the fat header says CPU {cpu:#x}, the slice {image.cpu:#x}")
        images[image.architecture] = image
    if len(images) != count:
        raise Malformed("two slices of one architecture")
    return images


def _image(content):
    magic, cpu, _, file_type, commands, _, _, _ = struct.unpack_from("<IIIIIIII", content)
    if magic != MH_MAGIC_64 or cpu not in NAMES:
        raise Malformed(f"magic {magic:#x}, CPU {cpu:#x}")
    image = Image(cpu, file_type, content=content)
    at, dyld_info, symbols = 32, None, None
    for _ in range(commands):
        command, size = struct.unpack_from("<II", content, at)
        body = content[at : at + size]
        if command == LC_SEGMENT_64:
            _segment(image, body)
        elif command == LC_SYMTAB:
            symbols = struct.unpack_from("<IIII", body, 8)
        elif command == LC_ID_DYLIB:
            image.identity = _string(body, struct.unpack_from("<I", body, 8)[0])
        elif command in (LC_LOAD_DYLIB, LC_LOAD_WEAK_DYLIB, LC_REEXPORT_DYLIB):
            image.libraries.append(_string(body, struct.unpack_from("<I", body, 8)[0]))
        elif command == LC_RPATH:
            image.rpaths.append(_string(body, struct.unpack_from("<I", body, 8)[0]))
        elif command == LC_BUILD_VERSION:
            platform, version = struct.unpack_from("<II", body, 8)
            image.minimum = (platform, version >> 16, version >> 8 & 0xFF)
        elif command == LC_CODE_SIGNATURE:
            image.signed = True
        elif command in (LC_DYLD_INFO, LC_DYLD_INFO_ONLY):
            dyld_info = struct.unpack_from("<10I", body, 8)
        elif command == LC_DYLD_CHAINED_FIXUPS:
            raise Malformed("chained fixups: teach this reader to follow them")
        at += size
    if symbols:
        _symbols(image, *symbols)
    if dyld_info:
        rebase_at, rebase_size, bind_at, bind_size, weak_at, weak_size, lazy_at, lazy_size, _, _ = dyld_info
        _rebases(image, content[rebase_at : rebase_at + rebase_size])
        _binds(image, content[bind_at : bind_at + bind_size], False)
        _binds(image, content[weak_at : weak_at + weak_size], False)
        _binds(image, content[lazy_at : lazy_at + lazy_size], True)
    return image


def _string(body, start):
    return body[start:].split(b"\0", 1)[0].decode()


def _fixed(raw):
    return raw.split(b"\0", 1)[0].decode()


def _segment(image, body):
    name, address, size, offset, file_size = struct.unpack_from("<16sQQQQ", body, 8)
    image.segments.append(
        Segment(_fixed(name), address, size, image.content[offset : offset + file_size])
    )
    (count,) = struct.unpack_from("<I", body, 64)
    for index in range(count):
        section, segment, start, length = struct.unpack_from("<16s16sQQ", body, 72 + 80 * index)
        image.sections.append(Section(_fixed(segment), _fixed(section), start, length))


def _symbols(image, offset, count, strings, _):
    for index in range(count):
        text, kind, _, _, value = struct.unpack_from("<IBBHQ", image.content, offset + 16 * index)
        name = image.content[strings + text :].split(b"\0", 1)[0].decode()
        if kind & N_STAB:
            image.debug_names.append(name)
        elif kind & N_TYPE == N_UNDF:
            image.undefined.add(name)
        else:
            image.defined[name] = value
            if kind & N_EXT:
                image.exported.add(name)


def _uleb(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def _rebases(image, data):
    at = address = 0
    while at < len(data):
        opcode, immediate = data[at] & 0xF0, data[at] & 0x0F
        at += 1
        count, step = 0, 8
        if opcode == 0x00:  # done
            return
        if opcode == 0x10:  # type: only pointers
            if immediate != 1:
                raise Malformed(f"rebase of type {immediate}")
        elif opcode == 0x20:  # segment and offset
            offset, at = _uleb(data, at)
            address = image.segments[immediate].address + offset
        elif opcode == 0x30:
            offset, at = _uleb(data, at)
            address += offset
        elif opcode == 0x40:
            address += immediate * 8
        elif opcode == 0x50:
            count = immediate
        elif opcode == 0x60:
            count, at = _uleb(data, at)
        elif opcode == 0x70:
            offset, at = _uleb(data, at)
            count, step = 1, 8 + offset
        elif opcode == 0x80:
            count, at = _uleb(data, at)
            skip, at = _uleb(data, at)
            step = 8 + skip
        else:
            raise Malformed(f"rebase opcode {opcode:#x}")
        for _ in range(count):
            image.rebases.add(address)
            address += step


def _binds(image, data, lazy):
    at = address = addend = 0
    library = symbol = ""
    while at < len(data):
        opcode, immediate = data[at] & 0xF0, data[at] & 0x0F
        at += 1
        count, step = 0, 8
        if opcode == 0x00:  # done; in the lazy table only the end of one entry
            if not lazy:
                return
        elif opcode == 0x10:
            library = _library(image, immediate)
        elif opcode == 0x20:
            ordinal, at = _uleb(data, at)
            library = _library(image, ordinal)
        elif opcode == 0x30:
            library = {0: "self", 0xF: "main", 0xE: "flat", 0xD: "weak"}[immediate]
        elif opcode == 0x40:
            end = data.index(b"\0", at)
            symbol, at = data[at:end].decode(), end + 1
        elif opcode == 0x50:
            if immediate != 1:
                raise Malformed(f"bind of type {immediate}")
        elif opcode == 0x60:
            raw, at = _uleb(data, at)
            addend = raw
        elif opcode == 0x70:
            offset, at = _uleb(data, at)
            address = image.segments[immediate].address + offset
        elif opcode == 0x80:
            offset, at = _uleb(data, at)
            address = address + offset & 0xFFFFFFFFFFFFFFFF
        elif opcode == 0x90:
            count = 1
        elif opcode == 0xA0:
            offset, at = _uleb(data, at)
            count, step = 1, 8 + offset
        elif opcode == 0xB0:
            count, step = 1, 8 + immediate * 8
        elif opcode == 0xC0:
            count, at = _uleb(data, at)
            skip, at = _uleb(data, at)
            step = 8 + skip
        else:
            raise Malformed(f"bind opcode {opcode:#x}")
        for _ in range(count):
            image.binds[address] = Bind(symbol, library, addend)
            address = address + step & 0xFFFFFFFFFFFFFFFF


def _library(image, ordinal):
    return image.libraries[ordinal - 1] if ordinal else "self"
