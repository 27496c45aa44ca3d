#!/usr/bin/env python3
"""fit.py TREE: makes a tree one that softservice takes, in place, and says what it changed.

A tree of ours must mean the same on every system: no colon or backslash in a name, no two names that differ only in case,
links relative and inside the tree (protocol/SPEC.md). A Debian root tree has some of each. Names are written with %XX,
links become relative; nothing is left out, no content changes."""
import os, sys, unicodedata

root = os.fsencode(os.path.realpath(sys.argv[1]))
changed = {"names": 0, "links": 0}


def fit(name, taken):
    out = name.replace(b"%", b"%25") if any(c in name for c in b":\\") else name
    for c in b":\\":
        out = out.replace(bytes([c]), b"%%%02X" % c)
    if out[-1:] in (b".", b" "):
        out = out[:-1] + b"%%%02X" % out[-1]
    text = unicodedata.normalize("NFC", os.fsdecode(out))
    out = os.fsencode(text)
    while text.upper().lower() in taken:
        out += b"%"
        text += "%"
    taken.add(text.upper().lower())
    return out


renamed = {}
for folder, folders, files in os.walk(root):
    taken = set()
    for i, name in sorted(enumerate(folders + files), key=lambda pair: pair[1]):
        new = fit(name, taken)
        if new == name:
            continue
        renamed[os.path.join(folder, name)] = new
        changed["names"] += 1
        os.rename(os.path.join(folder, name), os.path.join(folder, new))
        if i < len(folders):
            folders[i] = new


def inside(path):
    """Where a path as packages know it stands now, component by component, links not followed."""
    at = root
    for part in os.path.normpath(b"/" + path).split(b"/")[1:]:
        at = os.path.join(at, renamed.get(os.path.join(at, part), part)) if part else at
    return at


for folder, folders, files in os.walk(root):
    for name in folders + files:
        path = os.path.join(folder, name)
        if not os.path.islink(path):
            continue
        target = os.readlink(path)
        here = os.path.relpath(folder, root)
        named = target if target.startswith(b"/") else os.path.join(here, target)
        new = os.path.relpath(inside(named), folder)
        if new != os.path.normpath(target) or target.startswith(b"/"):
            changed["links"] += 1
        if new != target:
            stamp = os.lstat(path)
            os.unlink(path)
            os.symlink(new, path)
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns), follow_symlinks=False)
print(f"{changed['names']} names and {changed['links']} links are written in another way", file=sys.stderr)
