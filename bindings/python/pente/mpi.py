"""One model, trained by several processes, each of which has rows of its own: Pente on mpi4py.

    mpirun -n 4 python train.py

where train.py makes the same layer, optimizer, loss and Trainer in each process, and then

    distributed = pente.mpi.DistributedTrainer(trainer)      # all have rank 0's parameters now
    distributed.fit(x, y, epochs=10)                         # each with its own rows

Every rank of the communicator makes the same calls in the same order. If one rank's call fails, it raises there what went
wrong, and a RankError that names the rank everywhere else: nobody waits for it. A rank whose process dies is mpirun's
affair, which ends the others and names it.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from ._pente import Matrix, Trainer
from ._reports import Epoch, History

__all__ = ["DistributedTrainer", "RankError"]


class RankError(RuntimeError):
    """Another rank's call has failed; the message names the rank and says how."""


class DistributedTrainer:
    """A Trainer of each rank on a communicator of mpi4py's (None: COMM_WORLD), with one model for all.

    Looks whether all ranks' models are alike, a RankError if not, and gives all of them rank 0's parameters, optimizer
    options and momentum. One thread at a time.
    """

    def __init__(self, trainer: Trainer, comm: Any = None) -> None:
        try:
            mpi = import_module("mpi4py.MPI")
        except ImportError as error:
            raise ImportError("pente.mpi needs mpi4py, and an MPI that it finds; python -m pip install mpi4py") from error
        self._in_place, self._comm = mpi.IN_PLACE, (mpi.COMM_WORLD if comm is None else comm).Dup()
        self.trainer = trainer
        self._heard = False
        self._count = len(trainer.sums)
        self._agree(self._compare)
        self.broadcast()

    @property
    def rank(self) -> int:
        """This process's number in the communicator, from 0."""
        return int(self._comm.Get_rank())

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return int(self._comm.Get_size())

    def broadcast(self) -> None:
        """Gives all ranks rank 0's parameters, and its optimizer's options and state."""
        layer, optimizer = self.trainer.layer, self.trainer.optimizer
        parameters, state = self._comm.bcast((layer.state_dict(), optimizer.state_dict()))
        if self.rank:
            layer.load_state_dict(parameters)
            optimizer.load_state_dict(state)

    def verify(self) -> None:
        """A RankError unless all ranks have the same parameters and optimizer state, to the bit."""
        self._agree(self._compare_bits)

    def step(self, x: Any = None, y: Any = None, sample_weight: Any = None) -> float:
        """One step of all ranks' rows together, and the loss of all: Trainer.step on all of them, but for rounding.

        x, y and sample_weight are this rank's, or None if it has no rows.
        """
        trainer = self.trainer
        trainer.sums = None
        error: BaseException | None = None
        numbers = array("d", trainer.sums)
        if x is not None or y is not None or sample_weight is not None:
            try:
                trainer.accumulate(x, y, sample_weight)
                numbers = array("d", trainer.sums)
            except Exception as failure:
                error = failure
        if self._add_up(numbers, failed=error is not None):
            trainer.sums = None
            self._raise_first(error)
        trainer.sums = numbers
        return trainer.apply_sums()

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *,
        epochs: int = 1,
        first_epoch: int = 0,
        seed: int = 0,
        sample_weight: Any = None,
        on_epoch: Callable[[Epoch], object] | None = None,
        checkpoint: Any = None,
        resume: bool = False,
        verify_epochs: int = 1,
        **arguments: Any,
    ) -> History | None:
        """Trainer.fit of all ranks' rows together, with its arguments; x may be a source, and None: this rank has no rows.

        batch_size is a rank's. Each rank shuffles its own rows, with seed + rank. validation and epochs are to be the same
        in all. Rank 0 writes the checkpoint, at the ends of epochs; with resume all go on behind its last whole epoch, with
        any number of ranks, and the History (None if there is nothing left to do) is of this run alone. After every
        verify_epochs epochs (0: never) verify is called.
        """
        done = self._resume(checkpoint) if resume else None
        if done is not None:
            epochs, first_epoch = epochs - (done - first_epoch), done
        if epochs < 1 and done is not None:
            return None
        if x is None and y is None:
            x, y, sample_weight = self._nothing()
        before = (self.trainer.layer.state_dict(), self.trainer.optimizer.state_dict())
        count, self._heard = 0, False

        def after_epoch(epoch: Epoch) -> object:
            nonlocal count
            count += 1
            if verify_epochs > 0 and count % verify_epochs == 0:
                self._verify_in_fit()
            return on_epoch(epoch) if on_epoch is not None else False

        history: History | None = None
        error: BaseException | None = None
        try:
            history = self.trainer.fit(
                x, y, epochs=epochs, first_epoch=first_epoch, seed=seed + self.rank, sample_weight=sample_weight,
                on_epoch=after_epoch, checkpoint=checkpoint if self.rank == 0 else None, reduce=self._reduce, **arguments,
            )
        except BaseException as failure:
            error = failure
        # The last of the calls in which ranks meet; who has heard of a failure has no more of them.
        failed = self._heard or self._add_up(array("d", bytes(8 * (self._count + 2))), error is not None)
        if failed:
            self.trainer.layer.load_state_dict(before[0])
            self.trainer.optimizer.load_state_dict(before[1])
            self._raise_first(None if isinstance(error, _Heard) else error)
        return history

    # Within a fit, ranks tell each other everything by sums of as many numbers, so that whatever one of them does meets the
    # others' next call.

    def _add_up(self, numbers: array[float], failed: bool) -> bool:
        """Makes them the sums of all ranks'; returns whether any of these has failed."""
        numbers.append(1.0 if failed else 0.0)
        self._comm.Allreduce(self._in_place, numbers)
        return numbers.pop() > 0

    def _reduce(self, vector: Matrix) -> None:
        if self._heard:
            raise _Heard
        numbers = array("d", vector)
        if self._add_up(numbers, failed=False):
            self._heard = True
            raise _Heard
        memoryview(vector).cast("B")[:] = memoryview(numbers).cast("B")

    def _verify_in_fit(self) -> None:
        own = self._bits()
        numbers = array("d", bytes(8 * (self._count + 2)))
        if self.rank == 0:
            numbers[0], numbers[1] = own
        if self._add_up(numbers, failed=False):
            self._heard = True
            raise _Heard
        is_same = (numbers[0], numbers[1]) == own
        if self._add_up(array("d", bytes(8 * len(numbers))), failed=not is_same):
            self._heard = True
            if is_same:
                raise _Heard
            raise ValueError("its parameters differ from rank 0's")

    def _resume(self, checkpoint: Any) -> int | None:
        """How many epochs rank 0's file has done, if there is one; all ranks have its parameters then."""

        def load() -> int | None:
            if self.rank or checkpoint is None or not Path(checkpoint).exists():
                return None
            self.trainer.layer.load_parameters(checkpoint, self.trainer.optimizer)
            with open(checkpoint, "rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            run = json.loads(header["__metadata__"]["pente"])["fit"]
            return int(run["first_epoch"]) + int(run["epochs"])

        done: int | None = self._comm.bcast(self._agree(load))
        if done is not None:
            self.broadcast()
        return done

    def _nothing(self) -> tuple[Any, Any, Any]:
        """A row that counts for nothing."""
        layer = self.trainer.layer
        letter: Literal["f", "d"] = "f" if layer.dtype == "float32" else "d"
        inputs, outputs = layer.in_features or 1, layer.out_features or 1
        parts = (memoryview(array(letter, [0.0] * n)).cast("B") for n in (inputs, outputs, 1))
        x, y, weight = (part.cast(letter, [1, n]) for part, n in zip(parts, (inputs, outputs, 1), strict=True))
        return x, y, weight

    def _compare(self) -> None:
        shapes = {name: list(value.shape) for name, value in self.trainer.layer.state_dict().items()}
        own = (self.trainer.layer.dtype, shapes, len(self.trainer.optimizer.state_dict()["param_groups"]))
        first = self._comm.bcast(own)
        if own != first:
            raise ValueError(f"its layer is of {own[0]} with {own[1]}, but rank 0's of {first[0]} with {first[1]}")

    def _bits(self) -> tuple[float, float]:
        """A hash of the parameters, and of the optimizer's state, as two numbers."""
        digest = hashlib.blake2b(digest_size=8)
        state = self.trainer.optimizer.state_dict()
        for value in self.trainer.layer.state_dict().values():
            digest.update(bytes(memoryview(value).cast("B")))
        for entry in state["state"].values():
            digest.update(bytes(memoryview(entry["momentum_buffer"]).cast("B")))
        digest.update(repr(state["step_count"]).encode())
        words = memoryview(digest.digest()).cast("I")
        return float(words[0]), float(words[1])

    def _compare_bits(self) -> None:
        own = self._bits()
        if self._comm.bcast(own) != own:
            raise ValueError("its parameters differ from rank 0's")

    def _agree(self, body: Callable[[], Any]) -> Any:
        """What body returns, unless a rank's has failed: that is raised in all."""
        error: BaseException | None = None
        result = None
        try:
            result = body()
        except Exception as failure:
            error = failure
        self._raise_first(error)
        return result

    def _raise_first(self, error: BaseException | None) -> None:
        """Raises this rank's error, or one that tells of the first rank that has one."""
        told = self._comm.allgather(None if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        for rank, text in enumerate(told):
            if text is not None:
                raise RankError(f"rank {rank}: {text}")


class _Heard(Exception):
    """Another rank has failed."""

