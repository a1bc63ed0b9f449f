"""Foundation: configuration, host and images are sound, before anything boots. Makes no machine."""
