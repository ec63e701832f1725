"""Lets the CUDA build of PyTorch, which is what the package index offers for Linux, start without the gigabytes of CUDA libraries.

The loader wants every library and symbol that PyTorch's own libraries name, though a process without a GPU calls next to none of them. This
compiles, into PyTorch's folder, empty stand-ins for the missing libraries. Each function returns 100 (cudaErrorNoDevice), so PyTorch finds no
GPU and works on the CPU. Only for checks on a CPU: never install it over real CUDA libraries, which it leaves alone where it finds them.

Needs `cc`, `nm` and `readelf`. Usage: python cuda_stubs.py
"""

import re
import subprocess
import sysconfig
import tempfile
from collections import defaultdict
from pathlib import Path

NO_DEVICE = 100  # cudaErrorNoDevice: cudaGetDeviceCount's answer where there is no GPU
UNVERSIONED = re.compile(r"cu[A-Z]|cusparse|nccl|nvshmem")
LIBRARIES = re.compile(r"lib(cu|nccl|nvrtc|nvshmem)")


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wanted(folder: Path) -> tuple[set[str], dict[str, str], dict[str, str]]:
    """Sonames that PyTorch's libraries need; CUDA symbol -> version or ''; version -> the soname that must define it."""
    sonames: set[str] = set()
    symbols: dict[str, str] = {}
    owners: dict[str, str] = {}
    for library in sorted(folder.glob("lib*.so")):
        sonames.update(name for name in re.findall(r"\(NEEDED\).*\[(.+)\]", output("readelf", "-dW", str(library))) if LIBRARIES.match(name))
        owner = ""
        for line in output("readelf", "-VW", str(library)).splitlines():
            if found := re.search(r"File: (\S+)", line):
                owner = found[1]
            elif (found := re.search(r"Name: (\S+)", line)) and LIBRARIES.match(owner):
                owners[found[1]] = owner
        for line in output("nm", "-D", "--undefined-only", str(library)).splitlines():
            name, _, version = line.split()[-1].partition("@")
            version = version.lstrip("@")
            if version in owners or (not version and UNVERSIONED.match(name)):
                symbols[name] = symbols.get(name) or version
    return sonames, symbols, owners


def compile_stub(path: Path, versions: dict[str, list[str]]) -> None:
    """One library holding `versions`: version -> its symbols, '' for those without."""
    with tempfile.TemporaryDirectory() as scratch:
        source, script = Path(scratch, "stub.c"), Path(scratch, "stub.map")
        names = [name for group in versions.values() for name in group]
        source.write_text("".join(f"long {name}(void) {{ return {NO_DEVICE}; }}\n" for name in names))
        named = {version: group for version, group in versions.items() if version}
        script.write_text("".join(f"{version} {{ global: {' '.join(f'{name};' for name in group)} }};\n" for version, group in named.items()))
        flags = [f"-Wl,--version-script={script}"] if named else []
        output("cc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{path.name}", *flags, "-o", str(path), str(source))


def main() -> None:
    site = Path(sysconfig.get_path("platlib"))
    folder = site / "torch" / "lib"
    sonames, symbols, owners = wanted(folder)
    present = {path.name for path in (site / "nvidia").rglob("lib*.so*")} | {path.name for path in folder.glob("lib*.so*")}
    groups: dict[str, dict[str, list[str]]] = {soname: defaultdict(list) for soname in sorted(sonames - present)}
    home = "libcudart.so" if any(soname.startswith("libcudart") for soname in groups) else ""
    for name, version in symbols.items():
        # A symbol without a version may come from any library that is loaded: the runtime's stand-in, which always is.
        owner = owners[version] if version else next((soname for soname in groups if home and soname.startswith(home)), "")
        if owner in groups:
            groups[owner][version].append(name)
    for soname, versions in groups.items():
        compile_stub(folder / soname, versions)
    print(f"{len(groups)} stand-ins")


if __name__ == "__main__":
    main()
