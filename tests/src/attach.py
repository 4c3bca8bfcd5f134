"""attach.py xdp|ingress|egress INTERFACE RESULT: has a BPF program that returns RESULT see an interface's packets."""

import ctypes
import os
import platform
import socket
import struct
import sys

# include/uapi/linux/bpf.h
PROG_LOAD, PROG_ATTACH = 5, 8
SCHED_CLS, XDP = 3, 6
TCX = {"ingress": 46, "egress": 47}

CALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]
libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 128)
    result = libc.syscall(CALL, command, buffer, len(buffer))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def load(kind, result):
    # r0 = result; exit
    code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, result, 0x95, 0, 0, 0))
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack("<IIQQ", kind, 2, ctypes.addressof(code), ctypes.addressof(licence))
    return bpf(PROG_LOAD, attributes)


def attribute(kind, value):
    return struct.pack("<HH", 4 + len(value), kind) + value


def attach_xdp(index, program):
    RTM_SETLINK, REQUEST_ACK, IFLA_XDP, NESTED, FD, FLAGS, SKB_MODE = 19, 5, 43, 0x8000, 1, 3, 2
    inner = attribute(FD, struct.pack("<i", program)) + attribute(FLAGS, struct.pack("<I", SKB_MODE))
    body = struct.pack("<BxHiII", 0, 0, index, 0, 0) + attribute(IFLA_XDP | NESTED, inner)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        route.send(struct.pack("<IHHII", 16 + len(body), RTM_SETLINK, REQUEST_ACK, 1, 0) + body)
        (error,) = struct.unpack_from("<i", route.recv(4096), 16)
        if error:
            raise OSError(-error, os.strerror(-error))


where, index, result = sys.argv[1], socket.if_nametoindex(sys.argv[2]), int(sys.argv[3])
if where == "xdp":
    attach_xdp(index, load(XDP, result))
else:
    # They stay until the interface goes.
    bpf(PROG_ATTACH, struct.pack("<IIII", index, load(SCHED_CLS, result), TCX[where], 0))
