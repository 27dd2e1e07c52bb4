// An MPI program that says which files of MPI it runs from, and how each of them ends.

#include <mpi.h>
#include <stdio.h>
#include <string.h>

static void show(const char *path)
{
    char end[10] = "";
    FILE *file = fopen(path, "r");

    if (file && fseek(file, -9, SEEK_END) == 0 && fread(end, 1, 9, file) == 9)
        printf("%s %s\n", path, strcmp(end, "the site\n") == 0 ? "is the site's" : "is another's");
    if (file)
        fclose(file);
}

int main(int argc, char **argv)
{
    char line[4096], shown[4096] = "", *path;
    int rank, size;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && rank == 0 && fgets(line, sizeof line, maps)) {
        line[strcspn(line, "\n")] = '\0';
        path = strchr(line, '/');
        if (path && strstr(path, "/libmp") && strcmp(path, shown) != 0)
            show(strcpy(shown, path));
    }
    if (rank == 0)
        printf("%d ranks\n", size);
    MPI_Finalize();
    return 0;
}
