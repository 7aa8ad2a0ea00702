"""A Mac small enough for a test: one Mach-O library in memory, its code executed, libSystem played by Python.

`Machine` maps a slice of the linked library, applies its fixups as dyld would, and lets a test call what the
library put in front of libc. Every call out of the library arrives at a Python function of the same name in
the `system` object, with the arguments where the ABI of the architecture puts them. So what is executed is
the code that ships: symbol names, calling conventions, structure layouts, constants.
"""
import struct

import unicorn
from unicorn import arm64_const as arm
from unicorn import x86_const as x86

MASK = 0xFFFF_FFFF_FFFF_FFFF
SLIDE = 0x1_0000_0000  # where the library is mapped; not its preferred address 0
IMPORTS, IMPORTS_SIZE = 0x7_0000_0000, 0x10000  # one 16-byte stub for every imported function
STACK, STACK_SIZE = 0x6_0000_0000, 0x40_0000
HEAP, HEAP_SIZE = 0x5_0000_0000, 0x100_0000
PAGE = 0x1000
# Far more than any hook needs: a hook that loops is a failed test, not a hung one.
INSTRUCTION_LIMIT = 20_000_000

ARM_REGISTERS = [getattr(arm, f"UC_ARM64_REG_X{n}") for n in range(8)]
X86_REGISTERS = [
    x86.UC_X86_REG_RDI,
    x86.UC_X86_REG_RSI,
    x86.UC_X86_REG_RDX,
    x86.UC_X86_REG_RCX,
    x86.UC_X86_REG_R8,
    x86.UC_X86_REG_R9,
]


class Fault(Exception):
    """A pointer that no process could follow."""


class Machine:
    def __init__(self, image, system):
        self.image, self.system = image, system
        self.arm = image.architecture == "arm64"
        if self.arm:
            self.cpu = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
            # Apple's compilers may use Armv8.4 (LDAPR among it), the emulator's default has not.
            self.cpu.ctl_set_cpu_model(arm.UC_CPU_ARM64_MAX)
            # The vector registers are off at reset (CPACR_EL1.FPEN); every Mac has them on.
            self.cpu.reg_write(arm.UC_ARM64_REG_CPACR_EL1, 3 << 20)
        else:
            self.cpu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self.registers = ARM_REGISTERS if self.arm else X86_REGISTERS
        self.failure = None
        self.stubs, self.names = {}, {}
        self.heap = HEAP
        self._map()
        self._fix_up()
        self.hooks = {
            bind.symbol.removeprefix("_"): SLIDE + replacement
            for replacement, bind in image.interpose_tuples()
        }
        system.machine = self

    # === the image

    def _map(self):
        for segment in self.image.segments:
            if segment.size:
                size = (segment.size + PAGE - 1) // PAGE * PAGE
                self.cpu.mem_map(SLIDE + segment.address, size)
                self.cpu.mem_write(SLIDE + segment.address, segment.content)
        for start, size in ((IMPORTS, IMPORTS_SIZE), (STACK, STACK_SIZE), (HEAP, HEAP_SIZE)):
            self.cpu.mem_map(start, size)
        returns = b"\xc0\x03\x5f\xd6" * 4 if self.arm else b"\xc3" * 16
        self.cpu.mem_write(IMPORTS, returns * (IMPORTS_SIZE // 16))
        self.cpu.hook_add(
            unicorn.UC_HOOK_CODE, self._imported, begin=IMPORTS + 16, end=IMPORTS + IMPORTS_SIZE
        )

    def _fix_up(self):
        for address in self.image.rebases:
            self.write_word(SLIDE + address, SLIDE + self.image.pointer(address))
        for address, bind in self.image.binds.items():
            self.write_word(SLIDE + address, self._stub(bind.symbol) + bind.addend)

    def _stub(self, symbol):
        if symbol not in self.stubs:
            # The first stub is where calls from outside return to.
            address = IMPORTS + 16 * (len(self.stubs) + 1)
            self.stubs[symbol], self.names[address] = address, symbol
        return self.stubs[symbol]

    # === memory

    def read(self, address, size):
        try:
            return bytes(self.cpu.mem_read(address, size))
        except unicorn.UcError as error:
            raise Fault(f"{size} bytes at {address:#x}") from error

    def write(self, address, data):
        try:
            self.cpu.mem_write(address, bytes(data))
        except unicorn.UcError as error:
            raise Fault(f"{len(data)} bytes at {address:#x}") from error

    def word(self, address):
        return struct.unpack("<Q", self.read(address, 8))[0]

    def write_word(self, address, value):
        self.write(address, struct.pack("<Q", value & MASK))

    def int32(self, address):
        return struct.unpack("<i", self.read(address, 4))[0]

    def write_int32(self, address, value):
        self.write(address, struct.pack("<I", value & 0xFFFF_FFFF))

    def string(self, address):
        data = b""
        while b"\0" not in data:
            # Up to the next page: the string may end right before one that is not mapped.
            data += self.read(address + len(data), 64 - (address + len(data)) % 64)
        return data.split(b"\0", 1)[0]

    def strings(self, address):
        found = []
        while self.word(address + 8 * len(found)):
            found.append(self.string(self.word(address + 8 * len(found))))
        return found

    def allocate(self, data):
        """Puts bytes into memory of their own, with 32 bytes of 0xAA around them."""
        address = self.heap + 32
        self.heap = (address + len(data) + 32 + 15) & ~15
        self.write(address - 32, b"\xaa" * 32 + bytes(data) + b"\xaa" * 32)
        return address

    def c_string(self, text):
        return self.allocate((text.encode() if isinstance(text, str) else text) + b"\0")

    def c_strings(self, texts):
        pointers = [self.c_string(text) for text in texts] + [0]
        return self.allocate(struct.pack(f"<{len(pointers)}Q", *pointers))

    def map_page(self, content):
        """Pages of memory as mmap(2) would give."""
        address = (self.heap + PAGE - 1) // PAGE * PAGE
        size = max(1, (len(content) + PAGE - 1) // PAGE) * PAGE
        self.heap = address + size
        self.write(address, content.ljust(size, b"\0"))
        return address

    # === calls

    def call(self, name, *arguments, variadic=()):
        """Calls what the library put in front of `name`: the unsigned 64-bit result."""
        if name not in self.hooks:
            raise AssertionError(f"{name} is not hooked")
        return self.run(self.hooks[name], *arguments, variadic=variadic)

    def run(self, function, *arguments, variadic=()):
        """Calls a function with arguments and, where it is variadic, more of them behind."""
        cpu, top = self.cpu, STACK + STACK_SIZE // 2
        saved = cpu.context_save()
        if self.arm:
            # Apple's ABI: variadic arguments always go on the stack, eight bytes each.
            registers, stack = list(arguments), list(variadic)
        else:
            everything = list(arguments) + list(variadic)
            registers, stack = everything[:6], everything[6:]
        if len(registers) > len(self.registers):
            registers, stack = registers[: len(self.registers)], registers[len(self.registers) :] + stack
        for register in self.registers:
            cpu.reg_write(register, 0xDEAD_DEAD_DEAD_DEAD)
        for register, value in zip(self.registers, registers):
            cpu.reg_write(register, value & MASK)
        top -= (len(stack) * 8 + 15) // 16 * 16
        # What lies above the arguments belongs to the caller and must come back as it was.
        frame = struct.pack(f"<{len(stack)}Q", *(value & MASK for value in stack)) + b"\x5a" * 64
        self.write(top, frame)
        if self.arm:
            cpu.reg_write(arm.UC_ARM64_REG_LR, IMPORTS)
            cpu.reg_write(arm.UC_ARM64_REG_SP, top)
        else:
            self.write_word(top - 8, IMPORTS)
            cpu.reg_write(x86.UC_X86_REG_RSP, top - 8)
        kept = self._callee_saved()
        self.failure = None
        try:
            cpu.emu_start(function, IMPORTS, count=INSTRUCTION_LIMIT)
        except unicorn.UcError as error:
            raise self.failure or AssertionError(f"{error} at {self._place()}") from error
        if self.failure:
            raise self.failure
        at = cpu.reg_read(arm.UC_ARM64_REG_PC if self.arm else x86.UC_X86_REG_RIP)
        if at != IMPORTS:
            raise AssertionError(f"the function does not return: {self._place()}")
        result = cpu.reg_read(arm.UC_ARM64_REG_X0 if self.arm else x86.UC_X86_REG_RAX)
        stack_pointer = cpu.reg_read(arm.UC_ARM64_REG_SP if self.arm else x86.UC_X86_REG_RSP)
        if stack_pointer != top:
            raise AssertionError(f"the stack pointer comes back {stack_pointer - top:+d} bytes off")
        if self._callee_saved() != kept:
            raise AssertionError("a callee-saved register comes back changed")
        if self.read(top + len(stack) * 8, 64) != b"\x5a" * 64:
            raise AssertionError("the caller's frame was written to")
        cpu.context_restore(saved)
        return result

    def _callee_saved(self):
        if self.arm:
            registers = [getattr(arm, f"UC_ARM64_REG_X{n}") for n in range(19, 30)]
        else:
            registers = [getattr(x86, f"UC_X86_REG_{n}") for n in ("RBX", "RBP", "R12", "R13", "R14", "R15")]
        return [self.cpu.reg_read(register) for register in registers]

    def _place(self):
        at = self.cpu.reg_read(arm.UC_ARM64_REG_PC if self.arm else x86.UC_X86_REG_RIP)
        below = [(value, name) for name, value in self.image.defined.items() if SLIDE + value <= at]
        return f"{at:#x} {max(below)[1] if below else ''}"

    def argument(self, index):
        """Argument `index` of the call under way, which is not variadic."""
        if index < len(self.registers):
            return self.cpu.reg_read(self.registers[index])
        return self.word(self._stack_arguments() + 8 * (index - len(self.registers)))

    def variadic(self, named, index):
        """Variadic argument `index` of the call under way to a function with `named` named ones."""
        if self.arm:
            return self.word(self._stack_arguments() + 8 * index)
        return self.argument(named + index)

    def _stack_arguments(self):
        if self.arm:
            return self.cpu.reg_read(arm.UC_ARM64_REG_SP)
        return self.cpu.reg_read(x86.UC_X86_REG_RSP) + 8

    def _imported(self, cpu, address, _size, _data):
        symbol = self.names.get(address)
        try:
            if symbol is None:
                raise AssertionError(f"a call to {address:#x}, which is no import")
            stack = cpu.reg_read(arm.UC_ARM64_REG_SP if self.arm else x86.UC_X86_REG_RSP)
            if (stack if self.arm else stack + 8) % 16:
                raise AssertionError(f"{symbol} is called with a stack that is not aligned")
            result = self.system.called(symbol)
        except Exception as failure:  # Raised again where the emulator was started.
            self.failure = failure
            cpu.emu_stop()
            return
        cpu.reg_write(arm.UC_ARM64_REG_X0 if self.arm else x86.UC_X86_REG_RAX, (result or 0) & MASK)
        # A callee may change every register that is not its caller's.
        if self.arm:
            for register in ARM_REGISTERS[1:]:
                cpu.reg_write(register, 0xBAD0_BAD0_BAD0_BAD0)
        else:
            for register in (*X86_REGISTERS, x86.UC_X86_REG_R10, x86.UC_X86_REG_R11):
                cpu.reg_write(register, 0xBAD0_BAD0_BAD0_BAD0)
