/* Where a container has Slurm's commands, as both the joiner and the command's stand-in know it. */
#ifndef HPCIMG_CLIENT_H
#define HPCIMG_CLIENT_H

#define COMMANDS   "/.hpcimg/bin"   /* the stand-ins, last in PATH */
#define HOST_USR   "/.hpcimg/usr"   /* where a site binds the host's /usr, */
#define HOST_SLURM "/.hpcimg/slurm" /* and Slurm's own folder where it is none of /usr */

#endif
