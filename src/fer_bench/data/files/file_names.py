"""What the name of a file or folder says: an image, a list, or no part of a dataset.

Only names count here, because archives and folders are filtered before any file is opened. The
decoder recognises the format of an image by its bytes.
"""

import re
from pathlib import PurePath

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"),
)
LIST_SUFFIXES = (".csv", ".txt", ".npy")
ARCHIVE_SUFFIXES = (
    *(".zip", ".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".rar", ".7z"),
)
# Suffixes of images in formats that are not decoded: they are counted by suffix, so that nobody
# trains on half of the pictures of a phone without noticing.
UNSUPPORTED_SUFFIXES = frozenset(
    (
        *(".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".jpm"),
        *(".jxr", ".wdp", ".pjpeg", ".pjp", ".apng", ".mng", ".svg", ".svgz", ".psd", ".psb"),
        *(".xcf", ".ico", ".icns", ".cur", ".tga", ".pcx", ".pgm", ".ppm", ".pbm", ".pnm", ".pfm"),
        *(".exr", ".hdr", ".ras", ".sgi", ".rgb", ".xbm", ".xpm", ".dds", ".eps", ".emf", ".wmf"),
        *(".dcm", ".fits", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2"),
        *(".orf", ".rw2", ".raf", ".pef", ".srw", ".raw", ".3fr", ".kdc", ".dcr", ".mrw", ".x3f"),
    )
)

SYSTEM = "system file"
HIDDEN = "hidden"
NOT_AN_IMAGE = "not an image"
NOT_SUPPORTED = "format not supported"
NOT_UTF8 = "name is not UTF-8"

# What operating systems, network drives, synchronisation and archive programs leave in folders.
_SYSTEM_NAMES = frozenset(
    (
        *("desktop.ini", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "zbthumbnail.info"),
        *("system volume information", "recycler", "recycled", "msocache", "autorun.inf"),
        *("thumbs.db:encryptable", "picasa.ini", ".picasa.ini", ".picasaoriginals"),
        *("__macosx", ".ds_store", ".appledouble", ".lsoverride", ".appledb", ".appledesktop"),
        *(".fseventsd", ".apdisk", ".temporaryitems", "temporary items", "network trash folder"),
        *("icon\r", ".volumeicon.icns", ".localized", ".com.apple.timemachine.donotpresent"),
        *("@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", ".@__thumb"),
        *(".streams", ".@upload_cache", "@sharebin", "@synoresource"),
        *("lost+found", ".directory", ".thumbnails", ".xvpics", ".snapshot", ".snapshots"),
        *(".dropbox", ".dropbox.attr", ".dropbox.cache", ".tmp.drivedownload", ".tmp.driveupload"),
        *(".sync", ".stfolder", ".stversions", ".stignore", ".owncloudsync.log"),
        *(".nextcloudsync.log", ".csync_journal.db", ".megaignore", ".debris", ".rslsync"),
        *(".ipynb_checkpoints", "__pycache__"),
    )
)
# Deleted files (`$RECYCLE.BIN`, `$R1.jpg`), resource forks (`._face.jpg`), locks, placeholders.
_SYSTEM_NAME = re.compile(
    r"\$|\._|~\$|\.trash|\.spotlight-|\.documentrevisions-|\.nfs[0-9a-f]|\.fuse_hidden|\.sync_"
    r"|\.~lock\.|found\.[0-9]{3}$|.+@syno(?:eastream|resource)$|\..+\.icloud$"
)


def is_system_name(name: str) -> bool:
    """Whether a system or program, not a person, creates files or folders of this name."""
    folded = name.casefold()
    return folded in _SYSTEM_NAMES or _SYSTEM_NAME.match(folded) is not None


def is_hidden_name(name: str) -> bool:
    """Whether `name`, one part of a path, begins with a dot or is a system name."""
    return name.startswith(".") or is_system_name(name)


def is_image_name(name: str) -> bool:
    """Whether `name`, one part of a path, is that of an image in a known format."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not is_hidden_name(name)


def is_image(path: PurePath) -> bool:
    """Whether `path` is that of an image and no part of it is hidden or a system name."""
    return path.name.lower().endswith(IMAGE_SUFFIXES) and not _is_hidden(path)


def is_release_file(path: PurePath) -> bool:
    """Whether `path` is that of an image of any format or of a list, such as labels.

    Images of unsupported formats are included, so that reading the folder reports them.
    """
    known = path.suffix.lower() in {*IMAGE_SUFFIXES, *LIST_SUFFIXES, *UNSUPPORTED_SUFFIXES}
    return known and not _is_hidden(path)


def reason_left_out(name: str) -> str:
    """Why a visible file of this name is left out where images are expected.

    `format not supported: .heic` for an image of an unsupported format, else `not an image`.
    """
    suffix = PurePath(name).suffix.lower()
    return f"{NOT_SUPPORTED}: {suffix}" if suffix in UNSUPPORTED_SUFFIXES else NOT_AN_IMAGE


def reason_hidden(name: str) -> str:
    """Why a file or folder of this name is skipped: `system file`, `hidden`, or nothing."""
    if is_system_name(name):
        return SYSTEM
    return HIDDEN if name.startswith(".") else ""


def _is_hidden(path: PurePath) -> bool:
    return any(map(is_hidden_name, path.parts))
