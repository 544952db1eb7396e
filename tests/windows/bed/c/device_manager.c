/*
 * device_manager.dll: the calls of cfgmgr32.dll that restart a device, which Wine 8 has only as stubs. They take the
 * bench's adapter out and put it back in, as Windows does: not while somebody has it open.
 */
#include <windows.h>
#include <winioctl.h>

#include "tap_bed.h"

#define EXPORT __declspec(dllexport)

/* cfgmgr32.h */
#define CR_SUCCESS 0x00
#define CR_NO_SUCH_DEVNODE 0x0D
#define CR_REMOVE_VETOED 0x17
#define CR_FAILURE 0x13

#define ADAPTER 1 /* the device node of the only device */

static DWORD bench(DWORD code, struct bench_state *state)
{
    HANDLE device = CreateFileW(L"\\\\.\\Global\\" TAP_BENCH_DEVICE, GENERIC_READ | GENERIC_WRITE,
                                FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING, 0, NULL);
    DWORD length;
    BOOL done;

    if (device == INVALID_HANDLE_VALUE)
        return CR_FAILURE;
    done = DeviceIoControl(device, code, NULL, 0, state, state ? sizeof *state : 0, &length, NULL);
    CloseHandle(device);
    return done ? CR_SUCCESS : CR_FAILURE;
}

EXPORT DWORD WINAPI CM_Locate_DevNodeW(DWORD *node, WCHAR *instance_id, ULONG flags)
{
    (void)flags;
    if (!instance_id || lstrcmpiW(instance_id, TAP_INSTANCE_ID))
        return CR_NO_SUCH_DEVNODE;
    *node = ADAPTER;
    return CR_SUCCESS;
}

EXPORT DWORD WINAPI CM_Disable_DevNode(DWORD node, ULONG flags)
{
    struct bench_state state;
    DWORD result;

    (void)flags;
    if (node != ADAPTER)
        return CR_NO_SUCH_DEVNODE;
    result = bench(BENCH_STATE, &state);
    if (result != CR_SUCCESS)
        return result;
    return state.opened ? CR_REMOVE_VETOED : bench(BENCH_REMOVE, NULL);
}

EXPORT DWORD WINAPI CM_Enable_DevNode(DWORD node, ULONG flags)
{
    (void)flags;
    return node == ADAPTER ? bench(BENCH_INSERT, NULL) : CR_NO_SUCH_DEVNODE;
}
