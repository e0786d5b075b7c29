"""Trains a linear model on a CSV file, of whose rows each rank has a share: mpirun -n 2 train_mpi.py DATA.csv"""

import sys

import numpy as np
from mpi4py import MPI

import pente
from pente.mpi import DistributedTrainer

rank, size = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
data = np.loadtxt(sys.argv[1], delimiter=",", skiprows=1, dtype="float32")
data = (data - data.mean(axis=0)) / data.std(axis=0)
own = np.array_split(data, size)[rank]

layer = pente.Linear(data.shape[1] - 1, 1, seed=0)
trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.05, momentum=0.9), pente.MSELoss())
history = DistributedTrainer(trainer).fit(own[:, :-1], own[:, -1:], epochs=200, batch_size=len(data))
if rank == 0:
    print(f"{size} ranks in Python: loss {history.training_losses[-1]:.6f}")
