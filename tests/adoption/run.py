#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs the build into a temporary place, moves it, and adopts it in each way README offers.

Prints TAP, one line per way. usage: run.py SOURCE_ROOT BUILD_ROOT"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ALLOWED = {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1"}


class Adoption:
    def __init__(self, source, build, temp):
        self.source, self.build, self.temp = source, build, temp
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("MESON", "DESTDIR"))}

    def run(self, *command, **env):
        done = subprocess.run([str(c) for c in command], env={**self.env, **env}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240)
        if done.returncode != 0:
            shown = " ".join(str(c) for c in command)
            raise AssertionError(f"exit {done.returncode}: {shown}\n{done.stdout}")
        return done.stdout

    def expect_app(self, exe, **env):
        out = self.run(exe, **env)
        assert out.endswith("slipring adopted: yes\n"), out

    def installs(self):
        """meson install, then the tree moves to a path with a space: nothing may remember."""
        self.run("meson", "install", "-C", self.build, "--no-rebuild", "--quiet",
                 "--destdir", self.temp / "staging")
        pc = next((self.temp / "staging").rglob("slipring.pc"))
        libdir = pc.parent.parent
        prefix = re.search(r"^prefix=(.*)$", pc.read_text(), re.M).group(1)
        staged = self.temp / "staging" / prefix.lstrip("/")
        self.prefix = self.temp / "moved here"
        staged.rename(self.prefix)
        self.libdir = self.prefix / libdir.relative_to(staged)
        for file in ("libslipring.so", "libslipring.so.0", "libslipring.a",
                     "cmake/slipring/slipringConfig.cmake"):
            assert (self.libdir / file).exists(), f"{file} is not installed"
        headers = {p.relative_to(self.source / "include")
                   for p in (self.source / "include/slipring").rglob("*.h")}
        got = {p.relative_to(self.prefix / "include")
               for p in (self.prefix / "include/slipring").rglob("*")
               if p.is_file()}
        assert headers == got, f"headers differ: {sorted(map(str, headers ^ got))}"

    def links_only_the_four_libraries(self):
        dynamic = self.run("readelf", "-d", self.libdir / "libslipring.so")
        needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
        assert needed, dynamic
        assert needed <= ALLOWED, f"libslipring.so needs {sorted(needed - ALLOWED)} besides"
        assert "Library soname: [libslipring.so.0]" in dynamic, dynamic

    def adopts_by_pkg_config_and_plain_compiler(self):
        out = self.temp / "pkgconfig-app"
        self.run("sh", HERE / "pkgconfig/build.sh", HERE / "app.cc", out, self.prefix,
                 PKG_CONFIG_PATH=str(self.libdir / "pkgconfig"))
        self.expect_app(out, LD_LIBRARY_PATH=str(self.libdir))

    def adopts_by_cmake_find_package(self):
        project = self.copy("cmake")
        self.run("cmake", "-G", "Ninja", "-S", project, "-B", project / "b",
                 f"-DCMAKE_PREFIX_PATH={self.prefix}", "-DCMAKE_BUILD_TYPE=Release")
        self.run("cmake", "--build", project / "b")
        self.expect_app(project / "b/app")
        self.expect_app(project / "b/app_static")
        assert "libslipring" not in self.run("readelf", "-d", project / "b/app_static")

    def refuses_another_minor_version_in_cmake(self):
        project = self.copy("cmake")
        lists = project / "CMakeLists.txt"
        lists.write_text(lists.read_text().replace("slipring 0.1 ", "slipring 0.9 "))
        try:
            self.run("cmake", "-G", "Ninja", "-S", project, "-B", project / "b",
                     f"-DCMAKE_PREFIX_PATH={self.prefix}")
        except AssertionError as refused:
            assert "0.1" in str(refused) and "0.9" in str(refused), refused
            return
        raise AssertionError("version 0.9 was accepted")

    def adopts_as_a_meson_subproject(self):
        project = self.copy("meson")
        (project / "subprojects").mkdir()
        (project / "subprojects/slipring").symlink_to(self.source)
        # Nothing but compiler and headers: pkg-config answers no to everything.
        self.run("meson", "setup", project / "b", project, "--buildtype=plain",
                 PKG_CONFIG="/bin/false")
        self.run("ninja", "-C", project / "b", "app")
        self.expect_app(project / "b/app")
        assert not list((project / "b/subprojects/slipring").glob("test*/*")), "tests were built"

    def configures_with_every_part_off(self):
        self.run("meson", "setup", self.temp / "bare", self.source, "-Dtests=disabled",
                 "-Dtools=disabled", "-Dbench=disabled", "-Dfuzz=disabled",
                 PKG_CONFIG="/bin/false", CMAKE="/bin/false")

    def copy(self, name):
        project = Path(tempfile.mkdtemp(dir=self.temp)) / name
        shutil.copytree(HERE / name, project)
        shutil.copy(HERE / "app.cc", project)
        return project


def main():
    source, build = Path(sys.argv[1]), Path(sys.argv[2])
    if "-fsanitize" in (build / "build.ninja").read_text():
        print("1..0 # SKIP a sanitized library is not for installing")
        return 0
    with tempfile.TemporaryDirectory(prefix="slipring-adoption-") as temp:
        adoption = Adoption(source, build, Path(temp))
        ways = [adoption.installs, adoption.links_only_the_four_libraries,
                adoption.adopts_by_pkg_config_and_plain_compiler,
                adoption.adopts_by_cmake_find_package,
                adoption.refuses_another_minor_version_in_cmake,
                adoption.adopts_as_a_meson_subproject, adoption.configures_with_every_part_off]
        print(f"1..{len(ways)}", flush=True)
        failed = 0
        for number, way in enumerate(ways, 1):
            try:
                way()
                print(f"ok {number} - {way.__name__}", flush=True)
            except Exception as error:  # one way failing must not hide the others
                failed += 1
                print("".join(f"# {line}\n" for line in f"{error}".splitlines()), end="")
                print(f"not ok {number} - {way.__name__}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
