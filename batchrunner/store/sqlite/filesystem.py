"""Which file systems can't be trusted with locks."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

__all__ = ["network_file_system"]

_MOUNTS: Final = Path("/proc/mounts")
#: Types as the kernel names them; a FUSE type tells its program after the dot.
_NETWORK_TYPES: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb",
        "smb2",
        "smb3",
        "smbfs",
        "smbclient",
        "afs",
        "ncpfs",
        "9p",
        "ceph",
        "glusterfs",
        "lustre",
        "davfs",
        "gfs",
        "gfs2",
        "ocfs2",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.ceph",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.davfs",
        "fuse.davfs2",
        "fuse.gcsfuse",
        "fuse.blobfuse",
        "fuse.blobfuse2",
        "fuse.mount-s3",
        "fuse.smbnetfs",
        "fuse.curlftpfs",
    }
)


def network_file_system(directory: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the network file system that ``directory`` lies on, else ``None``.

    Told from the kernel's list of mounts; where there is none (macOS), nothing is refused.
    """
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    place = os.path.realpath(directory)
    best, found = -1, ""
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        point = re.sub(r"\\(\d{3})", lambda escape: chr(int(escape[1], 8)), point)
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        # The last of equally long mount points lies on top.
        if inside and len(point) >= best:
            best, found = len(point), kind
    return found if found in _NETWORK_TYPES else None
