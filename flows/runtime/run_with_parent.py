"""Run a module as `python -m MODULE ARGS` does, and end it when the parent process has ended.

Started as a script, `python -P run_with_parent.py PARENT_PID MODULE ARGS...`, so that nothing of
this project is imported. Whatever ended the parent, SIGKILL too, the system gives its children
another parent, which is what is looked for here.
"""

import os
import runpy
import signal
import sys
import threading
import time

POLL_S = 0.5
#: How long the module may take to end in good order after SIGTERM.
GRACE_S = 5.0


def end_with_parent(parent: int) -> None:
    """Wait until `parent` is no longer the parent of this process, then end this process."""
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, args=[int(sys.argv[1])], daemon=True).start()
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
