"""The services, each a package of its own; they talk through stubs and share only `services.chassis`."""

import os

# gRPC's core hangs a fork handler on the C library that takes its own locks in the child; a
# child forked while another thread holds one waits for ever, and we with it (seen within
# seconds under load).  Every child of ours is another program, so the handlers serve nobody.
# The core reads this once, so it must be set before grpc is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
