# Device-mapper's ioctls for the test helpers: what dmsetup does, without a new
# process for each of a thousand calls.
import fcntl
import os
import struct

HEADER = struct.Struct('=12sIIIiIIIQ128s129s7x')
TARGET = struct.Struct('=QQiI16s')
SUSPEND, SKIP_LOCKFS, NOFLUSH = 1 << 1, 1 << 10, 1 << 11
DEV_CREATE, DEV_REMOVE, DEV_SUSPEND, TABLE_LOAD, TABLE_STATUS, TARGET_MSG = 3, 4, 6, 9, 12, 14

_control = None


def _ioctl(number, name, flags=0, body=b'', targets=0):
    """Returns the device number and what the kernel left behind the header."""
    global _control
    if _control is None:
        _control = os.open('/dev/mapper/control', os.O_RDWR)
    data = bytearray(32768)
    HEADER.pack_into(data, 0, struct.pack('=3I', 4, 0, 0), len(data), HEADER.size, targets, 0,
                     flags, 0, 0, 0, name.encode(), b'')
    data[HEADER.size:HEADER.size + len(body)] = body
    fcntl.ioctl(_control, 3 << 30 | HEADER.size << 16 | 0xfd << 8 | number, data)
    fields = HEADER.unpack_from(data)
    return fields[8], bytes(data[fields[2]:])


def _text(body):
    return body.split(b'\0', 1)[0].decode()


def message(name, text):
    return _text(_ioctl(TARGET_MSG, name, 0, struct.pack('=Q', 0) + text.encode() + b'\0')[1])


def suspend(name, flags=0):
    _ioctl(DEV_SUSPEND, name, SUSPEND | flags)


def resume(name):
    _ioctl(DEV_SUSPEND, name)


def create(name, sectors, target, arguments):
    """Makes the device and its node, as `dmsetup create` does."""
    device = _ioctl(DEV_CREATE, name)[0]
    try:
        line = arguments.encode() + b'\0'
        line += bytes(-len(line) % 8)
        spec = TARGET.pack(0, sectors, 0, TARGET.size + len(line), target.encode())
        _ioctl(TABLE_LOAD, name, 0, spec + line, 1)
        resume(name)
    except OSError:
        _ioctl(DEV_REMOVE, name)
        raise
    major, minor = device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00
    os.mknod('/dev/mapper/' + name, 0o600 | 0o060000, os.makedev(major, minor))


def remove(name):
    _ioctl(DEV_REMOVE, name)
    os.unlink('/dev/mapper/' + name)


def status(name):
    return _text(_ioctl(TABLE_STATUS, name)[1][TARGET.size:])
