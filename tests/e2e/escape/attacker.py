"""A service that tries to get out. As `serve PORT` it attempts what each request's path and lines of body ask for; as
`once ATTEMPT ARGUMENT...` it attempts one thing and prints how that went: the same attempt, with and without a sandbox.

The answer begins with `done` when the attempt succeeded, else with `failed`. What an attempt makes it takes away again.
"""

import ctypes
import errno
import http.server
import os
import signal
import socket
import stat
import struct
import subprocess
import sys

libc = ctypes.CDLL(None, use_errno=True)
# Numbers by machine; those from 424 on are the same everywhere.
X86 = os.uname().machine == "x86_64"
NUMBERS = {
    "ptrace": 101 if X86 else 117,
    "process_vm_readv": 310 if X86 else 270,
    "keyctl": 250 if X86 else 219,
    "bpf": 321 if X86 else 280,
    "perf_event_open": 298 if X86 else 241,
    "userfaultfd": 323 if X86 else 282,
    "open_by_handle_at": 304 if X86 else 265,
    "kexec_load": 246 if X86 else 104,
    "init_module": 175 if X86 else 105,
    "settimeofday": 164 if X86 else 170,
    "swapon": 167 if X86 else 224,
    "setns": 308 if X86 else 268,
    "io_uring_setup": 425,
    "fsopen": 430,
    "clone3": 435,
    "pidfd_getfd": 438,
}


def call(number, *arguments):
    """A system call; raises what the kernel says."""
    ctypes.set_errno(0)
    if libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments]) < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


def read(path):
    with open(path, "rb") as f:
        return len(f.read(1))


def listing(path):
    return len(os.listdir(path))


def write(path):
    """Opens a file for writing, or makes one in a folder, and leaves things as they were."""
    if os.path.isdir(path):
        name = os.path.join(path, ".escaped")
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
        os.unlink(name)
    else:
        os.close(os.open(path, os.O_WRONLY))


def chmod(path):
    mode = stat.S_IMODE(os.stat(path).st_mode)
    os.chmod(path, mode | stat.S_IWUSR)
    os.chmod(path, mode)


def processes(marker):
    """Whether a process with this in its command line is seen."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if marker.encode() in f.read() and int(pid) not in (os.getpid(), os.getppid()):
                    return pid
        except OSError:
            pass
    raise OSError(errno.ESRCH, "nobody")


def send_signal(pid):
    os.kill(int(pid), 0)


def connect(port):
    socket.create_connection(("127.0.0.1", int(port)), 5).close()


def connect_by_sending(port):
    """TCP Fast Open: a connection without connect()."""
    with socket.socket() as s:
        # Python's own time-out would make the socket one that does not wait for the connection.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
        s.sendto(b"GET / HTTP/1.0\r\n\r\n", 0x20000000, ("127.0.0.1", int(port)))
        s.recv(1)


def connect_multipath(port):
    """MPTCP: a stream that is not TCP by name."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as s:
        s.settimeout(5)
        s.connect(("127.0.0.1", int(port)))


def listen(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", int(port)))
        s.listen()


def udp(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"out", ("127.0.0.1", int(port)))


def raw(_=None):
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


def packets(_=None):
    socket.socket(17, socket.SOCK_RAW, 0).close()


def vsock(_=None):
    socket.socket(40, socket.SOCK_STREAM).close()


def unix(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("\0" + path[1:] if path.startswith("@") else path)


def fork_bomb(wanted):
    """As many processes as wanted at once."""
    children = []
    try:
        for _ in range(int(wanted)):
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def memory(megabytes):
    """Touches so much memory, in a process of its own."""
    code = f"b = bytearray({int(megabytes)} << 20); b[::4096] = b'x' * len(b[::4096]); print(len(b))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    if done.returncode != 0:
        raise OSError(errno.ENOMEM, f"ended with {done.returncode}")


def setuid(program):
    """Runs a copy of `id` that root owns and that is set to run as its owner."""
    done = subprocess.run([program, "-u"], capture_output=True, text=True)
    if done.returncode != 0 or done.stdout.strip() != "0":
        raise OSError(errno.EPERM, f"it ran as {done.stdout.strip() or done.stderr.strip()}")


def trace(_=None):
    """Attaches to a child."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        call(NUMBERS["ptrace"], 16, child, 0, 0)
        os.waitpid(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def node(folder, kind, device):
    """A device of the kernel's in a folder."""
    name = os.path.join(folder, "device")
    os.mknod(name, 0o600 | {"b": stat.S_IFBLK, "c": stat.S_IFCHR}[kind], int(device))
    try:
        read(name)
    finally:
        os.unlink(name)


def mount(folder):
    if libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    libc.umount2(folder.encode(), 0)


def namespace(flag):
    """A child in a new namespace of its own: with all rights in it, and so with more of the kernel to attack."""
    child = os.fork()
    if child == 0:
        ctypes.set_errno(0)
        libc.unshare(int(flag, 16))
        os._exit(ctypes.get_errno())
    e = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if e:
        raise OSError(e, os.strerror(e))


def become(user):
    child = os.fork()
    if child == 0:
        try:
            os.setuid(int(user))
            os._exit(0)
        except OSError as e:
            os._exit(e.errno)
    e = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if e:
        raise OSError(e, os.strerror(e))


def reached(name):
    """Whether the kernel's code for a call is reached: any answer but a refusal of the call as such."""
    try:
        call(NUMBERS[name], 0, 0, 0, 0, 0)
    except OSError as e:
        if e.errno in (errno.EPERM, errno.ENOSYS):
            raise


def hostname(_=None):
    name = socket.gethostname()
    socket.sethostname(name)


ATTEMPTS = {
    f.__name__: f
    for f in [
        read, listing, write, chmod, processes, send_signal, connect, connect_by_sending, connect_multipath, listen, udp, raw,
        packets, vsock, unix, fork_bomb, memory, setuid, trace, node, mount, namespace, become, reached, hostname,
    ]
}


def attempt(name, arguments):
    try:
        return f"done {ATTEMPTS[name](*arguments) or ''}".strip()
    except (OSError, MemoryError) as e:
        return f"failed {type(e).__name__} {e}"


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer("here")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.answer(attempt(self.path[1:], body.split("\n") if body else []))

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
    else:
        print(attempt(sys.argv[2], sys.argv[3:]))
