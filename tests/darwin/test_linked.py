"""What is in the linked library: the tuples that dyld reads, what it needs, what it says of itself."""
import functools
import os
import pathlib
import re
import unittest

import declared
import macho

LIBRARY = os.environ.get("AGENTFS_DYLIB", "")
ALLOWED = pathlib.Path(__file__).with_name("undefined.txt")
SYSTEM = "/usr/lib/libSystem.B.dylib"
MH_DYLIB, PLATFORM_MACOS = 6, 1
# Where other shells than the system's are looked for (wire/src/script.rs).
LOOKED_INTO = (b"/opt/homebrew/bin", b"/usr/local/bin", b"/opt/local/bin")
# Where builds live, on the machines that we know of; and this very build.
BUILD_PATHS = re.compile(
    rb"/(?:root|home|Users|work|tmp|private|builds?|opt|mnt)/[^\0]*|[^\0]*\.(?:cargo|rustup)/[^\0]*"
)


def allowed():
    lines = (line.split("#")[0].strip() for line in ALLOWED.read_text().splitlines())
    return {line for line in lines if line}


def each_slice(test):
    """Runs a test with each image in turn."""

    @functools.wraps(test)
    def run(self):
        for architecture, image in self.images.items():
            with self.subTest(architecture):
                test(self, image)

    return run


class Linked(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not LIBRARY:
            raise RuntimeError("AGENTFS_DYLIB names no library; ci/darwin.sh inspect sets it")
        cls.images = macho.read(LIBRARY)

    def test_it_has_a_slice_for_each_kind_of_mac(self):
        self.assertEqual(set(self.images), {"arm64", "x86_64"})

    @each_slice
    def test_every_hook_has_one_tuple_and_every_tuple_a_hook(self, image):
        expected = {"_" + name for name in declared.hooks()}
        replaced = [bind.symbol for _, bind in image.interpose_tuples()]
        self.assertEqual(sorted(replaced), sorted(expected))

    def test_the_promised_hooks_are_declared(self):
        self.assertLessEqual(declared.PROMISED, declared.hooks())

    @each_slice
    def test_a_tuple_replaces_libsystems_function_by_code_of_ours(self, image):
        code = image.section("__text")
        for replacement, bind in image.interpose_tuples():
            self.assertEqual(bind.library, SYSTEM, bind)
            self.assertEqual(bind.addend, 0, bind)
            self.assertIn(replacement, code, bind)

    @each_slice
    def test_the_tuples_are_where_dyld_looks(self, image):
        section = image.section("__interpose")
        self.assertEqual(section.segment, "__DATA")
        self.assertEqual(section.size % 16, 0)

    @each_slice
    def test_it_needs_only_what_is_allowed(self, image):
        self.assertEqual(image.libraries, [SYSTEM])
        plain = {name.removesuffix("$INODE64") for name in image.undefined}
        self.assertEqual(plain - allowed(), set())

    @each_slice
    def test_whatever_it_needs_is_bound_to_libsystem(self, image):
        self.assertEqual({bind.library for bind in image.binds.values()}, {SYSTEM})

    @each_slice
    def test_it_runs_one_function_when_it_is_loaded(self, image):
        section = image.section("__mod_init_func")
        self.assertEqual(section.size, 8)
        self.assertIn(section.address, image.rebases)
        code = [s for s in image.sections if s.segment == "__TEXT" and s.name.startswith("__text")]
        start = image.pointer(section.address)
        self.assertTrue(any(start in section for section in code), f"{start:#x}")
        for other in ("__mod_term_func", "__init_offsets", "__thread_init", "__thread_vars"):
            self.assertIsNone(image.section(other), other)

    @each_slice
    def test_it_exports_nothing(self, image):
        self.assertEqual(image.exported, set())

    @each_slice
    def test_no_reachable_code_can_panic_or_unwind(self, image):
        names = "\n".join([*image.undefined, *image.defined])
        self.assertNotRegex(names, r"(?i)panic|unwind|_malloc|_pthread|_dlsym")

    @each_slice
    def test_it_says_nothing_of_the_machine_it_was_built_on(self, image):
        content = image.content
        for folder in LOOKED_INTO:
            content = content.replace(folder, b"")
        found = BUILD_PATHS.findall(content)
        self.assertEqual(found, [])
        self.assertNotIn(os.getcwd().encode(), image.content)
        self.assertEqual(image.debug_names, [])
        self.assertEqual(image.rpaths, [])

    @each_slice
    def test_it_is_a_library_for_macos_12_with_a_name_of_its_own(self, image):
        self.assertEqual(image.file_type, MH_DYLIB)
        self.assertEqual(image.minimum, (PLATFORM_MACOS, 12, 0))
        self.assertEqual(image.identity, "@rpath/libagentfs_interpose.dylib")

    def test_arm64_code_is_signed_as_that_system_demands(self):
        self.assertTrue(self.images["arm64"].signed)


if __name__ == "__main__":
    unittest.main()
