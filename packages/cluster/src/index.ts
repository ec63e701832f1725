/**
 * Training over several processes and machines, on MPI: `mpirun`, Slurm and the Kubernetes MPI operator start the processes, and this package is how they
 * reach each other. Built where there is an MPI compiler (`mpicxx`: Open MPI or MPICH); without it a process is alone.
 *
 * @example
 * ```ts
 * const ranks = connect(); // mpirun -n 4 node train.mjs
 * const sums = Float32Array.of(ranks.rank);
 * await ranks.allReduce(sums); // 0 + 1 + 2 + 3, the same bytes at every rank
 * await ranks.close();
 * ```
 * @module
 */
export { clusterStatus, connect, isLaunched, type ClusterStatus, type ConnectOptions } from './mpi.ts';
