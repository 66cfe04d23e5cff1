"""Settings of the process that a fit needs: device, precision, threads and memory."""
