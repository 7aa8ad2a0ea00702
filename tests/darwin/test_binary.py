"""What is in the linked `agentfs` program."""
import os
import pathlib
import re
import unittest

import macho

LIBRARY = os.environ.get("AGENTFS_DYLIB", "")
BINARIES = os.environ.get("AGENTFS_BINARIES", "").split()
MH_EXECUTE = 2
FRAMEWORKS = "/System/Library/Frameworks/"
BUILD_PATHS = re.compile(rb"/(?:root|home|Users|work|builds?)/[\w.+-]+/[^\0\s]*|[^\0\s]*\.(?:cargo|rustup)/[^\0\s]*")


class Binary(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not LIBRARY or not BINARIES:
            raise RuntimeError("AGENTFS_DYLIB and AGENTFS_BINARIES are not set; ci/darwin.sh binary sets them")
        cls.library = pathlib.Path(LIBRARY).read_bytes()
        cls.images = {}
        for path in BINARIES:
            cls.images.update(macho.read(path))

    def test_there_is_one_for_each_kind_of_mac(self):
        self.assertEqual(set(self.images), {"arm64", "x86_64"})
        for image in self.images.values():
            self.assertEqual(image.file_type, MH_EXECUTE)
            self.assertEqual(image.minimum, (1, 12, 0))
        self.assertTrue(self.images["arm64"].signed)

    def test_the_universal_library_is_in_it(self):
        for architecture, image in self.images.items():
            self.assertIn(self.library, image.content, architecture)

    def test_it_needs_only_what_every_mac_has(self):
        for architecture, image in self.images.items():
            for library in image.libraries:
                own = library == "/usr/lib/libSystem.B.dylib" or library.startswith(FRAMEWORKS)
                self.assertTrue(own, f"{architecture}: {library}")

    def test_it_says_nothing_of_the_machine_it_was_built_on(self):
        for architecture, image in self.images.items():
            self.assertEqual(sorted(set(BUILD_PATHS.findall(image.content)))[:10], [], architecture)
            self.assertNotIn(os.getcwd().encode(), image.content)
            self.assertEqual(image.debug_names, [])


if __name__ == "__main__":
    unittest.main()
