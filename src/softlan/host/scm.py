"""Windows' service control manager, by ctypes: to run as a service, and to be registered as one.

Sources: learn.microsoft.com/windows/win32/services (Service Program Tasks, Service Configuration Programs), winsvc.h.
A service is a process that connects to the manager within 30 seconds of its start, on any thread; the manager then
calls back on threads of its own. Nothing else than advapi32 takes part, so a frozen program needs no helper beside it.
"""

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from ctypes import POINTER, Structure, c_uint32, c_void_p, c_wchar_p
from typing import Any

from softlan.errors import HostError, UsageError

SERVICE_NAME = "softlan"
DISPLAY_NAME = "softlan LAN party client"
DESCRIPTION = "Keeps this PC in a room of a LAN party that is far away."

START_TIME = 30.0  # seconds for the manager to call a service that it has started
STOP_TIME = 30.0  # seconds for a service to end when it is asked to

_STAGE = "service"
_BY_HAND = "only Windows starts this command: register it with `softlan service install`"
_OWN_PROCESS, _AUTO_START, _ERROR_NORMAL = 0x10, 2, 1
_STOPPED, _START_PENDING, _STOP_PENDING, _RUNNING = 1, 2, 3, 4
_ACCEPT_STOP, _ACCEPT_SHUTDOWN = 0x1, 0x4
_CONTROL_STOP, _CONTROL_INTERROGATE, _CONTROL_SHUTDOWN = 1, 4, 5
_MANAGER_CONNECT, _MANAGER_CREATE = 0x1, 0x2
_SERVICE_ALL, _SERVICE_STOP, _SERVICE_QUERY, _DELETE = 0xF01FF, 0x20, 0x4, 0x10000
_CONFIG_DESCRIPTION, _CONFIG_FAILURE_ACTIONS = 1, 2
_ACTION_RESTART = 1

_NO_ERROR, _CALL_NOT_IMPLEMENTED, _SPECIFIC_ERROR = 0, 120, 1066
_ACCESS_DENIED = 5
_NOT_ACTIVE, _MARKED_FOR_DELETE, _DOES_NOT_EXIST, _EXISTS, _NOT_STARTED_BY_MANAGER = 1062, 1072, 1060, 1073, 1063


class ServiceStatus(Structure):
    """SERVICE_STATUS."""

    _fields_ = (
        ("dwServiceType", c_uint32),
        ("dwCurrentState", c_uint32),
        ("dwControlsAccepted", c_uint32),
        ("dwWin32ExitCode", c_uint32),
        ("dwServiceSpecificExitCode", c_uint32),
        ("dwCheckPoint", c_uint32),
        ("dwWaitHint", c_uint32),
    )


class ServiceTableEntry(Structure):
    """SERVICE_TABLE_ENTRYW; the last of a table is all zeros."""

    _fields_ = (("lpServiceName", c_wchar_p), ("lpServiceProc", c_void_p))


class ServiceDescription(Structure):
    """SERVICE_DESCRIPTIONW."""

    _fields_ = (("lpDescription", c_wchar_p),)


class ServiceAction(Structure):
    """SC_ACTION; the delay is in milliseconds."""

    _fields_ = (("Type", c_uint32), ("Delay", c_uint32))


class ServiceFailureActions(Structure):
    """SERVICE_FAILURE_ACTIONSW; the reset period is in seconds."""

    _fields_ = (
        ("dwResetPeriod", c_uint32),
        ("lpRebootMsg", c_wchar_p),
        ("lpCommand", c_wchar_p),
        ("cActions", c_uint32),
        ("lpsaActions", POINTER(ServiceAction)),
    )


class ServiceControl:
    """What the manager asks of a running service; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_stopping = False
        self._call: Callable[[], None] | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether the service is to end."""
        return self._is_stopping

    def on_stop(self, call: Callable[[], None]) -> None:
        """Call this once, from whatever thread, when the service is to end; at once if it is to already."""
        with self._lock:
            self._call = call
            is_late = self._is_stopping
        if is_late:
            call()

    def stop(self) -> None:
        """The service is to end."""
        with self._lock:
            if self._is_stopping:
                return
            self._is_stopping = True
            call = self._call
        if call is not None:
            call()


def serve(work: Callable[[ServiceControl], int]) -> int:
    """Run `work` as the service that the manager has started us as, on this thread; returns what `work` does.

    That is an exit status: the manager is told of one that is not 0. Raises HostError when a person has started us.
    """
    api = _advapi32()
    host = _Host(api)
    dispatcher = threading.Thread(target=host.dispatch, name="service dispatcher", daemon=True)
    dispatcher.start()
    if not host.started.wait(START_TIME):
        raise HostError(_STAGE, f"the service manager did not answer within {START_TIME:.0f} s; {_BY_HAND}")
    if host.error:
        if host.error == _NOT_STARTED_BY_MANAGER:
            raise HostError(_STAGE, f"the service manager did not start this; {_BY_HAND}")
        raise _error("connect to the service manager", host.error)
    status = 1
    try:
        host.report(_RUNNING)
        status = work(host.control)
    finally:
        host.report(_STOPPED, status)
        host.finished.set()
        dispatcher.join(STOP_TIME)
    return status


def install(command_line: str) -> None:
    """Register the service, to be started with Windows as the local system, and start it. Raises HostError.

    What cannot be started is not left registered. After a crash it is started again, after 10 seconds and later after
    60.
    """
    api = _advapi32()
    manager = _open_manager(api, _MANAGER_CONNECT | _MANAGER_CREATE)
    try:
        service = api.CreateServiceW(
            manager,
            SERVICE_NAME,
            DISPLAY_NAME,
            _SERVICE_ALL,
            _OWN_PROCESS,
            _AUTO_START,
            _ERROR_NORMAL,
            command_line,
            None,
            None,
            None,
            None,
            None,
        )
        if not service:
            error = _last_error()
            if error in (_EXISTS, _MARKED_FOR_DELETE):
                raise UsageError(
                    f"the service {SERVICE_NAME} exists already; remove it first with `softlan service remove`"
                )
            raise _error("create the service", error)
        try:
            _describe(api, service)
            if not api.StartServiceW(service, 0, None):
                raise _error("start the service", _last_error())
        except BaseException:  # an interrupt too: it would start with Windows, without its invitation; raised again
            api.DeleteService(service)
            raise
        finally:
            api.CloseServiceHandle(service)
    finally:
        api.CloseServiceHandle(manager)


def remove() -> None:
    """Stop the service and take it off the list. Raises HostError; UsageError when there is none."""
    api = _advapi32()
    manager = _open_manager(api, _MANAGER_CONNECT)
    try:
        service = api.OpenServiceW(manager, SERVICE_NAME, _SERVICE_STOP | _SERVICE_QUERY | _DELETE)
        if not service:
            error = _last_error()
            if error == _DOES_NOT_EXIST:
                raise UsageError(f"there is no service {SERVICE_NAME}")
            raise _error("open the service", error)
        try:
            _stop(api, service)
            if not api.DeleteService(service) and _last_error() != _MARKED_FOR_DELETE:
                raise _error("remove the service", _last_error())
        finally:
            api.CloseServiceHandle(service)
    finally:
        api.CloseServiceHandle(manager)


class _Host:
    """The callbacks; they live as long as the process."""

    def __init__(self, api: Any) -> None:
        self.control = ServiceControl()
        self.started = threading.Event()
        """Set when the manager has called us, or never will."""
        self.finished = threading.Event()
        self.error = 0
        self._api = api
        self._handle: int | None = None
        self._status = ServiceStatus(dwServiceType=_OWN_PROCESS)
        functype = _winfunctype()
        self._main_type = functype(None, c_uint32, c_void_p)
        self._main = self._main_type(self._service_main)
        self._handler = functype(c_uint32, c_uint32, c_uint32, c_void_p, c_void_p)(self._handle_control)

    def dispatch(self) -> None:
        """Connect to the manager; returns when the service has stopped."""
        table = (ServiceTableEntry * 2)()
        table[0] = ServiceTableEntry(SERVICE_NAME, ctypes.cast(self._main, c_void_p))
        if not self._api.StartServiceCtrlDispatcherW(table):
            self.error = _last_error()
            self.started.set()

    def report(self, state: int, status: int = 0) -> None:
        """Tell the manager where we are."""
        report = self._status
        report.dwCurrentState = state
        report.dwControlsAccepted = _ACCEPT_STOP | _ACCEPT_SHUTDOWN if state == _RUNNING else 0
        report.dwWaitHint = int(STOP_TIME * 1000) if state in (_START_PENDING, _STOP_PENDING) else 0
        report.dwWin32ExitCode = _SPECIFIC_ERROR if status else _NO_ERROR
        report.dwServiceSpecificExitCode = status
        if self._handle:
            self._api.SetServiceStatus(self._handle, ctypes.byref(report))

    def _service_main(self, _count: int, _arguments: int) -> None:
        self._handle = self._api.RegisterServiceCtrlHandlerExW(SERVICE_NAME, self._handler, None)
        if not self._handle:
            self.error = _last_error()
        else:
            self.report(_START_PENDING)
        self.started.set()
        self.finished.wait()

    def _handle_control(self, control: int, _kind: int, _data: int, _context: int) -> int:
        if control in (_CONTROL_STOP, _CONTROL_SHUTDOWN):
            self.report(_STOP_PENDING)
            self.control.stop()
            return _NO_ERROR
        return _NO_ERROR if control == _CONTROL_INTERROGATE else _CALL_NOT_IMPLEMENTED


def _describe(api: Any, service: int) -> None:
    """What people see in the list, and what follows a crash. Best effort: neither is needed to run."""
    api.ChangeServiceConfig2W(service, _CONFIG_DESCRIPTION, ctypes.byref(ServiceDescription(DESCRIPTION)))
    actions = (ServiceAction * 2)(ServiceAction(_ACTION_RESTART, 10_000), ServiceAction(_ACTION_RESTART, 60_000))
    failure = ServiceFailureActions(86_400, None, None, len(actions), actions)
    api.ChangeServiceConfig2W(service, _CONFIG_FAILURE_ACTIONS, ctypes.byref(failure))


def _stop(api: Any, service: int) -> None:
    status = ServiceStatus()
    if not api.ControlService(service, _CONTROL_STOP, ctypes.byref(status)):
        error = _last_error()
        if error == _NOT_ACTIVE:
            return
        raise _error("stop the service", error)
    deadline = time.monotonic() + STOP_TIME
    while status.dwCurrentState != _STOPPED:
        if time.monotonic() >= deadline:
            raise HostError(
                _STAGE, f"the service did not stop within {STOP_TIME:.0f} s; end its process, and try again"
            )
        time.sleep(0.1)  # the manager offers no wait of its own before Windows 8's callbacks
        if not api.QueryServiceStatus(service, ctypes.byref(status)):
            raise _error("ask after the service", _last_error())


def _open_manager(api: Any, access: int) -> int:
    manager: int | None = api.OpenSCManagerW(None, None, access)
    if not manager:
        raise _error("reach the service manager", _last_error())
    return manager


def _advapi32() -> Any:
    """The library with its prototypes. Raises HostError where there is no Windows."""
    if sys.platform != "win32":
        raise HostError("platform", f"unsupported platform: services are Windows', and this is {sys.platform}")
    api = ctypes.WinDLL("advapi32", use_last_error=True)
    handle, dword, text = c_void_p, c_uint32, c_wchar_p
    for name, result, arguments in (
        ("OpenSCManagerW", handle, (text, text, dword)),
        (
            "CreateServiceW",
            handle,
            (handle, text, text, dword, dword, dword, dword, text, text, c_void_p, text, text, text),
        ),
        ("OpenServiceW", handle, (handle, text, dword)),
        ("StartServiceW", dword, (handle, dword, c_void_p)),
        ("ControlService", dword, (handle, dword, POINTER(ServiceStatus))),
        ("QueryServiceStatus", dword, (handle, POINTER(ServiceStatus))),
        ("DeleteService", dword, (handle,)),
        ("CloseServiceHandle", dword, (handle,)),
        ("ChangeServiceConfig2W", dword, (handle, dword, c_void_p)),
        ("StartServiceCtrlDispatcherW", dword, (POINTER(ServiceTableEntry),)),
        ("RegisterServiceCtrlHandlerExW", handle, (text, c_void_p, c_void_p)),
        ("SetServiceStatus", dword, (handle, POINTER(ServiceStatus))),
    ):
        function = getattr(api, name)
        function.restype, function.argtypes = result, arguments
    return api


def _winfunctype() -> Any:
    return getattr(ctypes, "WINFUNCTYPE")  # noqa: B009 - it exists on Windows only, and mypy looks on Linux


def _last_error() -> int:
    error: int = getattr(ctypes, "get_last_error")()  # noqa: B009 - as above
    return error


def _error(what: str, error: int) -> HostError:
    if error == _ACCESS_DENIED:
        return HostError(_STAGE, f"cannot {what}: access denied; run it as administrator")
    return HostError(_STAGE, f"cannot {what}: Windows error {error}")
