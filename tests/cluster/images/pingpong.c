// Bandwidth between two ranks: 4 MiB messages back and forth, the median of ROUNDS rounds, or of
// as many as the first argument says.

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = 4 << 20, TRIPS = 20, ROUNDS = 25 };

static int ascending(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void trip(char *buffer, int rank)
{
    int peer = 1 - rank;
    if (rank == 0) {
        MPI_Send(buffer, BYTES, MPI_CHAR, peer, 0, MPI_COMM_WORLD);
        MPI_Recv(buffer, BYTES, MPI_CHAR, peer, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
        MPI_Recv(buffer, BYTES, MPI_CHAR, peer, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Send(buffer, BYTES, MPI_CHAR, peer, 0, MPI_COMM_WORLD);
    }
}

int main(int argc, char **argv)
{
    int rank, size, wanted = argc > 1 ? atoi(argv[1]) : ROUNDS;
    double rates[ROUNDS];

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    char *buffer = malloc(BYTES);
    if (size != 2 || !buffer || wanted < 1 || wanted > ROUNDS) {
        fprintf(stderr, "pingpong: needs two ranks, %d bytes, at most %d rounds\n", BYTES, ROUNDS);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    memset(buffer, rank, BYTES);
    for (int i = 0; i < TRIPS; i++)
        trip(buffer, rank);
    for (int round = 0; round < wanted; round++) {
        double start = MPI_Wtime();
        for (int i = 0; i < TRIPS; i++)
            trip(buffer, rank);
        rates[round] = 2.0 * TRIPS * BYTES / (MPI_Wtime() - start) / 1e9;
    }
    qsort(rates, wanted, sizeof *rates, ascending);
    if (rank == 0)
        printf("%.2f GB/s at 4 MiB\n", rates[wanted / 2]);
    free(buffer);
    MPI_Finalize();
    return 0;
}
