"""The contenders, each a process that lives as long as the run, and how to talk to them (see README.md)."""

import ctypes
import os
import select
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 120  # for an answer
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


@dataclass(frozen=True)
class Program:
    """A worker program, by the name that its column has."""

    name: str
    command: tuple[str, ...]
    is_peer: bool = True
    is_python: bool = False


def blas_libraries(name, soname):
    """Where Debian has the library; built for OpenMP first, so that it and the loops around it share their threads."""
    folder = "/usr/lib/x86_64-linux-gnu"
    return tuple(f"{folder}/{name}-{build}/{soname}" for build in ("openmp", "pthread", "serial")) + (soname,)


def programs(python, binaries):
    """All contenders, in the order of the table's columns."""

    def script(name, *arguments):
        return (python, str(ROOT / f"benchmarks/workers/python/with_{name}.py"), "THREADS", *arguments)

    def binary(name, *arguments):
        return (str(binaries / name), "THREADS", *arguments)

    openblas, blis = blas_libraries("openblas", "libopenblas.so.0"), blas_libraries("blis", "libblis.so.4")
    return [
        Program("C", binary("pente"), is_peer=False),
        Program("Python", script("pente"), is_peer=False, is_python=True),
        Program("Swift", binary("swift"), is_peer=False),
        Program("OpenBLAS", binary("blas", *openblas)),
        Program("BLIS", binary("blas", *blis)),
        Program("NumPy", script("numpy"), is_python=True),
        Program("PyTorch", script("torch"), is_python=True),
        Program("fused", script("torch", "fused"), is_python=True),
        Program("JAX", script("jax"), is_python=True),
        # q updates a call, where all others make one: shown, but no peer.
        Program("sklearn", script("sklearn"), is_peer=False, is_python=True),
    ]


def end_with_parent():
    """However the driver ends, a process that is stopped must not be left behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Gone(Exception):
    """The process ended, never began, or has not answered."""


class Refused(Exception):
    """The contender has no such task."""


class Failed(Exception):
    """The task went wrong."""


class Worker:
    """A process that is stopped whenever it is not asked something, so that threads of its that wait actively take
    nothing from the others."""

    def __init__(self, program, threads, environment, log):
        command = [str(threads) if word == "THREADS" else word for word in program.command]
        variables = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "MKL_NUM_THREADS"]
        environment = os.environ | environment | dict.fromkeys(variables, str(threads))
        self.program, self.version, self.threads = program, "", threads
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                            env=environment, bufsize=0, preexec_fn=end_with_parent)
        except OSError as error:
            raise Gone(str(error)) from error
        self.received = b""

    def wait_until_ready(self):
        word, _, rest = self.read().partition(" ")
        if word != "ready":
            raise Gone(rest)
        threads, _, self.version = rest.partition(" ")
        self.threads = int(threads)
        self.signal(signal.SIGSTOP)

    def ask(self, command):
        """The words of the answer after "ok"."""
        self.signal(signal.SIGCONT)
        try:
            self.process.stdin.write(command.encode() + b"\n")
        except OSError as error:
            raise Gone("it has ended") from error
        word, _, rest = self.read().partition(" ")
        self.signal(signal.SIGSTOP)
        if word != "ok":
            raise (Refused if word == "refused" else Failed)(rest)
        return rest.split()

    def read(self):
        while b"\n" not in self.received:
            if not select.select([self.process.stdout], [], [], LIMIT_SECONDS)[0]:
                raise Gone(f"no answer in {LIMIT_SECONDS} seconds")
            chunk = os.read(self.process.stdout.fileno(), 4096)
            if not chunk:
                raise Gone("it has ended; see the log")
            self.received += chunk
        line, _, self.received = self.received.partition(b"\n")
        return line.decode()

    def signal(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def close(self):
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Pool:
    """The workers that are running, by program, threads and a name for a second one of a kind."""

    def __init__(self, environment, log):
        self.environment, self.log = environment, log
        self.workers, self.absent = {}, {}

    def start(self, keys):
        """Starts the programs side by side; those that cannot be had are named in `absent`."""
        started = {}
        for program, threads, name in keys:
            key = (program.name, threads, name)
            if key in self.workers or program.name in self.absent or key in started:
                continue
            try:
                started[key] = Worker(program, threads, self.environment, self.log)
            except Gone as reason:
                self.absent[program.name] = str(reason)
        for key, worker in started.items():
            try:
                worker.wait_until_ready()
                self.workers[key] = worker
            except Gone as reason:
                worker.close()
                self.absent[key[0]] = str(reason)

    def get(self, program, threads, name=""):
        return self.workers.get((program.name, threads, name))

    def drop(self, worker):
        worker.close()
        self.workers = {key: other for key, other in self.workers.items() if other is not worker}

    def close(self):
        for worker in self.workers.values():
            worker.close()
        self.workers = {}
