"""Files that are damaged, or made to do harm, for `test_hostile.py` and `benchmarks/hostile.py`."""

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib

import numpy as np
from PIL import Image


def npy(shape="(20, 4, 4)", descr="'|u1'", body=bytes(320), magic=b"\x93NUMPY\x01\x00", fortran="False"):
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(magic) + 2 + len(header) + 1) % 64) + b"\n"
    return magic + struct.pack("<H", len(header)) + header + body


def saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def pixels(n=20, *shape):
    return np.random.default_rng(0).integers(0, 256, (n, *(shape or (4, 4))), dtype=np.uint8)


def write_zip(path, members, compress=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compress) as packed:
        for name, content in members.items():
            packed.writestr(name, content)


def png(array=None, size=None):
    buffer = io.BytesIO()
    Image.fromarray(pixels(1)[0] if array is None else array).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    if size is not None:  # a header that declares another size, its sum made right
        content[16:24] = struct.pack(">II", *size)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


class _Nameless(zipfile.ZipInfo):
    def is_dir(self):
        return False  # which Python 3.11 looks for in the name's last letter


class Spy:
    """What a pickle runs when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("/tmp/bype-unpickled",)


def own_files(root, megabytes=100):
    """Hostile sets of one's own by what is wrong with them: a path each; the largest unpacks to so many megabytes."""
    made = {}

    def file(what, suffix, content):
        made[what] = root / f"{what.replace(' ', '-')}{suffix}"
        made[what].write_bytes(content)

    good = saved(pixels())
    file("npy truncated", ".npy", good[:-1])
    file("npy longer", ".npy", good + b"x")
    file("npy empty", ".npy", b"")
    file("npy magic", ".npy", b"\x93NUMPX" + good[6:])
    file("npy version", ".npy", b"\x93NUMPY\x09\x00" + good[8:])
    file("npy declares 10^18 rows", ".npy", npy(f"({10**18}, 4, 4)"))
    file("npy declares more than 64 bits", ".npy", npy(f"({2**40}, {2**40}, {2**40})"))
    file("npy negative shape", ".npy", npy("(-20, 4, 4)"))
    file("npy header of 4 GB", ".npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"{" * 100)
    file("npy header nested deep", ".npy", npy("(" * 3000 + ")" * 3000))
    file("npy header that computes", ".npy", npy("(__import__('os').system('true'), 4)"))
    file("npy of objects", ".npy", saved(np.array([Spy()] * 20, dtype=object)))
    file("npy of records", ".npy", saved(np.zeros(20, [("a", "u1"), ("b", "f4")])))
    file("npy of text", ".npy", saved(np.array(["text"] * 20)))
    file("npy of integers", ".npy", saved(np.zeros((20, 4), np.int64)))
    file("npy of complex numbers", ".npy", saved(np.zeros((20, 4), np.complex64)))
    floats = pixels() / 255
    for what, value in (("NaN", np.nan), ("inf", np.inf), ("minus inf", -np.inf), ("1e300", 1e300), ("minus", -0.01)):
        spoiled = floats.copy()
        spoiled[7, 1, 1] = value
        file(f"npy with {what}", ".npy", saved(spoiled))
    file("npy of zero rows", ".npy", saved(pixels(0)))
    file("npy of one row", ".npy", saved(pixels(1)))
    file("npy of no columns", ".npy", saved(np.zeros((20, 0), np.uint8)))
    file("npy scalar", ".npy", saved(np.uint8(3)))
    file("npy of five dimensions", ".npy", saved(pixels(20, 2, 2, 2, 2)))
    file("npy constant", ".npy", saved(np.full((20, 4, 4), 9, np.uint8)))
    with (root / "sparse.npy").open("wb") as f:  # 20 GB declared and there, without taking room
        f.write(npy("(20, 10**9)".replace("10**9", str(10**9)), body=b""))
        f.truncate(f.tell() + 19 * 10**9)
    made["npy with a hole and too short"] = root / "sparse.npy"

    def packed(what, suffix, members, **options):
        made[what] = root / f"{what.replace(' ', '-')}{suffix}"
        write_zip(made[what], members, **options)

    body = bytes(megabytes * 10**6)
    packed(
        f"npz of zeros that unpacks to {megabytes} MB",
        ".npz",
        {"images.npy": npy(f"({megabytes}, 1000, 1000)", body=body)},
    )
    packed("npz that declares more", ".npz", {"images.npy": npy("(10000000000, 4, 4)")})
    packed("npz labels of another length", ".npz", {"images.npy": good, "labels.npy": saved(np.arange(19))})
    packed("npz labels of floats", ".npz", {"images.npy": good, "labels.npy": saved(np.full(20, 0.5))})
    packed("npz labels of objects", ".npz", {"images.npy": good, "labels.npy": saved(np.array([Spy()] * 20))})
    packed("npz labels enormous", ".npz", {"images.npy": good, "labels.npy": saved(np.arange(20) + 10**12)})
    packed("npz empty", ".npz", {})
    packed("npz of no array", ".npz", {"images.npy": b"text"})
    file("npz truncated", ".npz", made["npz labels of floats"].read_bytes()[:-30])
    file("npz that is text", ".npz", b"this is no archive")
    packed("npz with a wrong sum", ".npz", {"images.npy": good}, compress=zipfile.ZIP_STORED)
    spoiled = bytearray(made["npz with a wrong sum"].read_bytes())
    spoiled[400] ^= 255  # a pixel
    file("npz with a wrong sum", ".npz", bytes(spoiled))
    spoiled = bytearray(made["npz labels of floats"].read_bytes())
    spoiled[200] ^= 255
    file("npz with damaged data", ".npz", bytes(spoiled))

    packed("zip that leaves its folder", ".zip", {f"../../{i}.png": png() for i in range(20)})
    packed("zip of absolute names", ".zip", {f"/tmp/{i}.png": png() for i in range(20)})
    nameless = _Nameless("x")
    nameless.filename = ""
    packed("zip with a member without a name", ".zip", {f"{i}.png": png() for i in range(20)} | {nameless: b"x"})
    packed("zip of no images", ".zip", {"a.txt": "text"})
    packed("zip bomb", ".zip", {f"{i}.bmp": bytes(10**7) for i in range(10)})
    packed("zip in a zip", ".zip", {"a.zip": made["zip bomb"].read_bytes()})
    packed("zip of a huge image", ".zip", {f"{i}.png": png(size=(20_000, 10_000)) for i in range(20)})
    packed("zip packed otherwise", ".zip", {f"{i}.png": png() for i in range(20)}, compress=zipfile.ZIP_LZMA)
    file("zip that is text", ".zip", b"text")
    packed("zip of a large image", ".zip", {f"{i}.png": png(size=(10_000, 10_000)) for i in range(20)})
    packed("zip with one name twice", ".zip", {f"{i}.png": png() for i in range(20)} | {"x.png": png()})
    file("zip with one name twice", ".zip", made["zip with one name twice"].read_bytes().replace(b"x.png", b"7.png"))
    packed("zip with a password", ".zip", {f"{i}.png": png() for i in range(20)})
    spoiled = bytearray(made["zip with a password"].read_bytes())
    spoiled[spoiled.index(b"PK\x01\x02") + 8] |= 1  # the flag of a member in the directory
    file("zip with a password", ".zip", bytes(spoiled))

    def folder(what, members):
        made[what] = root / what.replace(" ", "-")
        for name, content in members.items():
            (made[what] / name).parent.mkdir(parents=True, exist_ok=True)
            (made[what] / name).write_bytes(content)
        made[what].mkdir(exist_ok=True)

    images = {f"{i:02}.png": png() for i in range(20)}
    folder("folder empty", {})
    folder("folder of mixed sizes", images | {"99.png": png(pixels(1, 5, 4)[0])})
    folder("folder with a 200-megapixel PNG", images | {"00.png": png(size=(20_000, 10_000))})
    folder("folder with a PNG cut off", images | {"07.png": png(pixels(1, 90, 90)[0])[:2000]})
    folder("folder with an image of nothing", images | {"07.png": b""})
    folder("folder with text called PNG", images | {"07.png": b"text"})
    folder("folder with a GIF", images | {"07.gif": b"GIF89a"})
    folder("folder with a script called JPEG", images | {"07.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n" + b" " * 99})
    folder("folder of one image", {"00.png": png()})
    folder("folder of splits", {f"{s}/{n}": c for s in ("train", "test") for n, c in images.items()})
    folder("folder nested deep", {"/".join("d" * 17) + f"/{name}": content for name, content in images.items()})
    folder("folder in a circle", images)
    (made["folder in a circle"] / "again").symlink_to(made["folder in a circle"])
    folder("folder with a link to itself", images)
    (made["folder with a link to itself"] / "loop.png").symlink_to("loop.png")
    folder("folder with a link to nothing", images)
    (made["folder with a link to nothing"] / "none.png").symlink_to("none-such")
    folder("folder with a pipe", images)
    os.mkfifo(made["folder with a pipe"] / "pipe.png")
    made["pipe"] = root / "pipe.npy"
    os.mkfifo(made["pipe"])
    made["link to itself"] = root / "self.npy"
    made["link to itself"].symlink_to("self.npy")
    made["device"] = root / "zero.npy"
    made["device"].symlink_to("/dev/zero")
    return made


def _packed_zeros(n):
    """So many million of them, quickly: a gzip file of several parts is one."""
    return gzip.compress(bytes(10**6), 1) * n


def published_files(root):
    """Hostile published sets: their name and their `--data-dir`."""
    made = {}
    header = b"\x00\x00\x08\x03" + struct.pack(">III", 60_000, 28, 28)
    for what, content in {
        "idx gzip bomb": gzip.compress(header) + _packed_zeros(300),
        "idx header of another type": gzip.compress(b"\x00\x00\x0d" + header[3:] + bytes(40_000)) + _packed_zeros(47),
        "idx that declares 2^32 rows": gzip.compress(header[:4] + b"\xff" * 12 + bytes(40_000)) + _packed_zeros(47),
        "idx cut off": gzip.compress(header + bytes(10**6))[:-9],
        "idx that is text": b"text",
    }.items():
        made[what] = ("mnist", root / what.replace(" ", "-"))
        (made[what][1] / "mnist").mkdir(parents=True)
        (made[what][1] / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(content)

    def archive(what, members):  # zeros where a member has no content
        made[what] = ("cifar10", root / what.replace(" ", "-"))
        (made[what][1] / "cifar10").mkdir(parents=True)
        with (made[what][1] / "cifar10" / "cifar-10-binary.tar.gz").open("wb") as f:
            for member, content in members:
                f.write(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + (content or b"")))
                f.write(b"" if content else _packed_zeros(member.size // 10**6))
                f.write(gzip.compress(bytes(-member.size % tarfile.BLOCKSIZE)))
            f.write(gzip.compress(bytes(tarfile.RECORDSIZE)))

    def info(name, size, kind=tarfile.REGTYPE):
        member = tarfile.TarInfo(name)
        member.size, member.type = size, kind
        return member

    name = "cifar-10-batches-bin/data_batch_1.bin"
    archive("tar without its members", [(info("a", 3), b"abc")])
    archive("tar member too long", [(info(name, 10**8), None)])
    archive("tar bomb before its members", [(info("bomb", 3 * 10**8), None)])
    archive("tar member that is a link", [(info(name, 0, tarfile.SYMTYPE), None)])
    archive("tar header of 100 MB", [(info("x", 10**8, tarfile.GNUTYPE_LONGNAME), None), (info("y", 0), None)])
    made["cifar row of another length"] = ("cifar10", root / "short")
    (root / "short" / "cifar10" / "cifar-10-batches-bin").mkdir(parents=True)
    (root / "short" / "cifar10" / "cifar-10-batches-bin" / "data_batch_1.bin").write_bytes(bytes(3072))
    return made
