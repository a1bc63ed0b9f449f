"""Twenty things that are read of machines: the command, and what its output has to match. Each side imports them."""

TWENTY = (
    ("the kernel's release", ("uname", "-r"), r"\d+\.\d+"),
    ("the architecture", ("uname", "-m"), r"x86_64|aarch64"),
    ("the distribution", ("cat", "/etc/os-release"), r"(?m)^ID=debian$"),
    ("the memory", ("cat", "/proc/meminfo"), r"MemTotal: +\d+ kB"),
    ("the load", ("cat", "/proc/loadavg"), r"^\d+\.\d+ "),
    ("the time since boot", ("cat", "/proc/uptime"), r"^\d+\.\d+ "),
    ("the number of CPUs", ("nproc",), r"^\d+$"),
    ("the clock", ("date", "+%s.%N"), r"^\d{10}\.\d{9}$"),
    ("the time zone", ("date", "+%Z"), r"^UTC$"),
    ("who we are", ("id", "-u"), r"^0$"),
    ("the accounts", ("cat", "/etc/passwd"), r"(?m)^root:x:0:0:"),
    ("the groups", ("getent", "group"), r"(?m)^root:x:0:"),
    ("root's shell", ("getent", "passwd", "root"), r":/bin/bash$"),
    ("the mode of /tmp", ("stat", "--format=%a %U", "/tmp"), r"^1777 root$"),
    ("the mode of /etc/shadow", ("stat", "--format=%a %U %G", "/etc/shadow"), r"^640 root shadow$"),
    ("the mounts", ("cat", "/proc/mounts"), r"(?m)^proc /proc proc "),
    ("the room below /", ("df", "--output=avail", "/"), r"(?m)^ *\d+$"),
    ("the settings of sshd", ("cat", "/etc/ssh/sshd_config"), r"(?m)^Include "),
    ("the most processes", ("cat", "/proc/sys/kernel/pid_max"), r"^\d+$"),
    ("the most open files", ("cat", "/proc/sys/fs/file-max"), r"^\d+$"),
)
