#!/bin/sh
# Hold the GPUs of this job for HOLD seconds, and say which ones and when.
echo "gpus=$SLURM_JOB_GPUS"
echo "from=$(date +%s.%N)"
sleep "$HOLD"
echo "to=$(date +%s.%N)"
