/* Apptainer's command line for the shared container of a step. */
#ifndef HPCIMG_ENGINE_H
#define HPCIMG_ENGINE_H

#include "starter.h"

/* As the user, in the step's working directory: become Apptainer with the holder in it. What keeps
 * it from that is said on standard error. */
void exec_engine(const struct request *request);

#endif
