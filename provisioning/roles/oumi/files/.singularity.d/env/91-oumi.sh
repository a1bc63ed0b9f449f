# Models and data come from folders that jobs name, never from a hub.
export HF_HUB_OFFLINE=1
export TRANSFORMERS_OFFLINE=1
export HF_DATASETS_OFFLINE=1
# Oumi, SkyPilot and the Hugging Face libraries tell their makers about each use unless they are told not to.
export DO_NOT_TRACK=1
export HF_HUB_DISABLE_TELEMETRY=1
export SKYPILOT_DISABLE_USAGE_COLLECTION=1
export WANDB_MODE=disabled
