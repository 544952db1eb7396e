/*
 * A stand-in for the driver of a TAP-Windows6 adapter, as a Windows kernel driver.
 *
 * What an application sees of it is as the real one does it (device.c, rxpath.c and txpath.c of tap-windows6): the
 * IOCTLs, one opener at a time, no frames before the medium is connected, one frame a read or write, reads that wait
 * and can be cancelled, short frames padded to 60 bytes, an 802.1Q tag taken off. Behind the adapter, where Windows has its
 * network stack, there is another device for a test to play that stack.
 *
 *     application -- {GUID}.tap --> queue --> {GUID}.tapos -- a test as the network stack
 *                 <----------------- queue <--------------
 *
 * All state is under one spin lock. IRPs are completed outside of it.
 */
#include <ddk/ntddk.h>

#include "tap_bed.h"

#define ETHERNET_HEADER 14
#define ETHERNET_MIN 60   /* without the FCS */
#define ETHERNET_MAX 1518 /* with one 802.1Q tag */
#define QUEUED_MAX 20000  /* frames that wait for a reader */

#define DEVICE(name) L"\\Device\\" name
#define LINK(name) L"\\DosDevices\\Global\\" name

struct frame {
    LIST_ENTRY link;
    ULONG length;
    UCHAR data[];
};

/* One end of the cable: the frames that wait to be read there, or the reads that wait for frames; never both. */
struct end {
    struct end *other;
    FILE_OBJECT *opener;
    LIST_ENTRY frames;
    ULONG frame_count;
    LIST_ENTRY reads;
};

struct version {
    ULONG major, minor, debug;
};

static KSPIN_LOCK lock;
static struct end application, stack;
static BOOLEAN inserted, media;
static ULONG dropped;
static UCHAR mac[6];
static struct version version = { 9, 27, 0 };

/* Completing requests. */

static NTSTATUS complete(IRP *irp, NTSTATUS status, ULONG_PTR information)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

static NTSTATUS complete_read(IRP *irp, struct frame *frame)
{
    ULONG room = IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length;
    NTSTATUS status = STATUS_BUFFER_OVERFLOW; /* ERROR_MORE_DATA, and the frame is lost: as the real driver has it */
    ULONG length = 0;

    if (frame->length <= room) {
        RtlCopyMemory(irp->AssociatedIrp.SystemBuffer, frame->data, frame->length);
        status = STATUS_SUCCESS;
        length = frame->length;
    }
    ExFreePool(frame);
    return complete(irp, status, length);
}

/* Reads that wait. */

static void WINAPI cancel_read(DEVICE_OBJECT *device, IRP *irp)
{
    KIRQL level;

    (void)device;
    IoReleaseCancelSpinLock(irp->CancelIrql);
    KeAcquireSpinLock(&lock, &level);
    RemoveEntryList(&irp->Tail.Overlay.ListEntry);
    KeReleaseSpinLock(&lock, level);
    complete(irp, STATUS_CANCELLED, 0);
}

/* Take the oldest read that waits, under the lock. One whose cancellation has begun belongs to cancel_read. */
static IRP *take_read(struct end *end)
{
    while (!IsListEmpty(&end->reads)) {
        LIST_ENTRY *link = RemoveHeadList(&end->reads);
        IRP *irp = CONTAINING_RECORD(link, IRP, Tail.Overlay.ListEntry);

        if (IoSetCancelRoutine(irp, NULL))
            return irp;
        InitializeListHead(link); /* so that cancel_read can take it out once more */
    }
    return NULL;
}

static ULONG count_reads(const struct end *end)
{
    ULONG count = 0;
    const LIST_ENTRY *link;
    KIRQL level;

    KeAcquireSpinLock(&lock, &level);
    for (link = end->reads.Flink; link != &end->reads; link = link->Flink)
        count++;
    KeReleaseSpinLock(&lock, level);
    return count;
}

static void abort_reads(struct end *end)
{
    for (;;) {
        KIRQL level;
        IRP *irp;

        KeAcquireSpinLock(&lock, &level);
        irp = take_read(end);
        KeReleaseSpinLock(&lock, level);
        if (!irp)
            return;
        complete(irp, STATUS_CANCELLED, 0); /* ERROR_OPERATION_ABORTED, 995 */
    }
}

static void discard_frames(struct end *end)
{
    KIRQL level;

    KeAcquireSpinLock(&lock, &level);
    while (!IsListEmpty(&end->frames))
        ExFreePool(CONTAINING_RECORD(RemoveHeadList(&end->frames), struct frame, link));
    end->frame_count = 0;
    KeReleaseSpinLock(&lock, level);
}

static void disconnect(void)
{
    media = FALSE;
    abort_reads(&application);
    discard_frames(&application);
}

/* Whether somebody else has this end open already. */
static BOOLEAN is_second(const struct end *end, IRP *irp)
{
    return end->opener != IoGetCurrentIrpStackLocation(irp)->FileObject;
}

/* The application has no adapter, or none that is connected. */
static BOOLEAN is_dead(const struct end *end)
{
    return end == &application && (!inserted || !media);
}

static struct end *end_of(DEVICE_OBJECT *device)
{
    return *(struct end **)device->DeviceExtension; /* NULL for the bench's device */
}

static NTSTATUS WINAPI on_read(DEVICE_OBJECT *device, IRP *irp)
{
    struct end *end = end_of(device);
    struct frame *frame;
    KIRQL level;

    if (!end)
        return complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    if (is_second(end, irp))
        return complete(irp, STATUS_UNSUCCESSFUL, 0);
    if (is_dead(end))
        return complete(irp, STATUS_CANCELLED, 0);

    KeAcquireSpinLock(&lock, &level);
    if (IsListEmpty(&end->frames)) {
        IoMarkIrpPending(irp);
        IoSetCancelRoutine(irp, cancel_read);
        InsertTailList(&end->reads, &irp->Tail.Overlay.ListEntry);
        KeReleaseSpinLock(&lock, level);
        return STATUS_PENDING;
    }
    frame = CONTAINING_RECORD(RemoveHeadList(&end->frames), struct frame, link);
    end->frame_count--;
    KeReleaseSpinLock(&lock, level);
    return complete_read(irp, frame);
}

/* Frames. */

static struct frame *new_frame(const UCHAR *data, ULONG length)
{
    ULONG room = length < ETHERNET_MIN ? ETHERNET_MIN : length;
    struct frame *frame = ExAllocatePool(NonPagedPool, sizeof *frame + room);

    if (frame) {
        RtlZeroMemory(frame->data, room);
        RtlCopyMemory(frame->data, data, length);
        frame->length = length;
    }
    return frame;
}

/* What the adapter does to a frame on its way into the network stack. */
static void as_received(struct frame *frame)
{
    UCHAR *type = frame->data + 12;

    if (frame->length >= ETHERNET_HEADER + 4 && type[0] == 0x81 && type[1] == 0x00) {
        RtlMoveMemory(type, type + 4, frame->length - 16);
        RtlZeroMemory(frame->data + frame->length - 4, 4);
        frame->length -= 4;
    }
    if (frame->length < ETHERNET_MIN)
        frame->length = ETHERNET_MIN;
}

/* Hand a frame to a read that waits, or let it wait for one. */
static void pass_on(struct end *to, struct frame *frame)
{
    BOOLEAN lost = FALSE;
    IRP *reader = NULL;
    KIRQL level;

    KeAcquireSpinLock(&lock, &level);
    if (is_dead(to))
        lost = TRUE;
    else if (!(reader = take_read(to))) {
        if (to->frame_count == QUEUED_MAX)
            lost = TRUE;
        else {
            InsertTailList(&to->frames, &frame->link);
            to->frame_count++;
        }
    }
    if (lost)
        dropped++;
    KeReleaseSpinLock(&lock, level);

    if (reader)
        complete_read(reader, frame);
    else if (lost)
        ExFreePool(frame);
}

static NTSTATUS WINAPI on_write(DEVICE_OBJECT *device, IRP *irp)
{
    ULONG length = IoGetCurrentIrpStackLocation(irp)->Parameters.Write.Length;
    struct end *end = end_of(device);
    struct frame *frame;

    if (!end)
        return complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    if (is_second(end, irp))
        return complete(irp, STATUS_UNSUCCESSFUL, 0);
    if (is_dead(end))
        return complete(irp, STATUS_CANCELLED, 0);
    if (length < ETHERNET_HEADER)
        return complete(irp, STATUS_BUFFER_TOO_SMALL, 0); /* ERROR_INSUFFICIENT_BUFFER, 122 */
    if (length > ETHERNET_MAX)
        return complete(irp, STATUS_INVALID_PARAMETER, 0);

    frame = new_frame(irp->AssociatedIrp.SystemBuffer, length);
    if (!frame)
        return complete(irp, STATUS_NO_MEMORY, 0);
    if (end == &application)
        as_received(frame);
    pass_on(end->other, frame);
    return complete(irp, STATUS_SUCCESS, length);
}

/* The MAC address, which the adapter takes from the registry when it initialises. */

static int hex_value(WCHAR digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    digit |= 0x20;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* Read 12 hex digits, with or without hyphens; nothing else will do. */
static BOOLEAN parse_mac(const WCHAR *text, ULONG characters, UCHAR parsed[6])
{
    ULONG digits = 0;

    RtlZeroMemory(parsed, 6);
    for (; characters && *text; text++, characters--) {
        int value = hex_value(*text);

        if (*text == '-')
            continue;
        if (value < 0 || digits == 12)
            return FALSE;
        parsed[digits / 2] = parsed[digits / 2] << 4 | value;
        digits++;
    }
    return digits == 12;
}

static void read_mac(void)
{
    static const UCHAR permanent[6] = { 0x00, 0xFF, TAP_GUID_FIRST_BYTES };
    UCHAR buffer[sizeof(KEY_VALUE_PARTIAL_INFORMATION) + 64 * sizeof(WCHAR)] __attribute__((aligned(8)));
    KEY_VALUE_PARTIAL_INFORMATION *value = (KEY_VALUE_PARTIAL_INFORMATION *)buffer;
    UNICODE_STRING path, name;
    OBJECT_ATTRIBUTES attributes;
    HANDLE key;
    UCHAR wanted[6];
    ULONG length;

    RtlCopyMemory(mac, permanent, 6);
    RtlInitUnicodeString(&path, L"\\Registry\\Machine\\" TAP_CLASS_KEY);
    RtlInitUnicodeString(&name, L"NetworkAddress");
    InitializeObjectAttributes(&attributes, &path, OBJ_CASE_INSENSITIVE, NULL, NULL);
    if (ZwOpenKey(&key, KEY_READ, &attributes))
        return;
    if (!ZwQueryValueKey(key, &name, KeyValuePartialInformation, buffer, sizeof buffer, &length) &&
        value->Type == REG_SZ && parse_mac((WCHAR *)value->Data, value->DataLength / sizeof(WCHAR), wanted)) {
        BOOLEAN multicast = wanted[0] & 1, local = wanted[0] & 2;

        if (local && !multicast) /* otherwise it is ignored, and nobody is told */
            RtlCopyMemory(mac, wanted, 6);
    }
    ZwClose(key);
}

/* The adapter comes and goes. Only its name tells one who opens it: without it, ERROR_FILE_NOT_FOUND, 2. */

static void insert(void)
{
    UNICODE_STRING device, link;

    if (inserted)
        return;
    read_mac();
    dropped = 0;
    inserted = TRUE;
    RtlInitUnicodeString(&device, DEVICE(TAP_DEVICE));
    RtlInitUnicodeString(&link, LINK(TAP_DEVICE));
    IoCreateSymbolicLink(&link, &device);
}

static void remove_adapter(void)
{
    UNICODE_STRING link;

    if (!inserted)
        return;
    RtlInitUnicodeString(&link, LINK(TAP_DEVICE));
    IoDeleteSymbolicLink(&link);
    inserted = FALSE;
    disconnect();
}

/* Requests of the application and of the bench. */

static NTSTATUS control_adapter(IRP *irp, ULONG code, void *buffer, ULONG in, ULONG out)
{
    static const ULONG mtu = 1500;
    const void *answer;
    ULONG length;

    if (is_second(&application, irp))
        return complete(irp, STATUS_UNSUCCESSFUL, 0);
    if (!inserted)
        return complete(irp, STATUS_CANCELLED, 0);
    switch (code) {
    case TAP_GET_MAC:
        answer = mac;
        length = sizeof mac;
        break;
    case TAP_GET_VERSION:
        answer = &version;
        length = sizeof version;
        break;
    case TAP_GET_MTU:
        answer = &mtu;
        length = sizeof mtu;
        break;
    case TAP_SET_MEDIA_STATUS:
        if (in < sizeof(ULONG))
            return complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
        if (*(ULONG *)buffer)
            media = TRUE;
        else
            disconnect();
        return complete(irp, STATUS_SUCCESS, sizeof(ULONG));
    default:
        return complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0); /* ERROR_INVALID_FUNCTION, 1 */
    }
    if (out < length)
        return complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
    RtlCopyMemory(buffer, answer, length);
    return complete(irp, STATUS_SUCCESS, length);
}

static NTSTATUS control_bench(IRP *irp, ULONG code, void *buffer, ULONG in, ULONG out)
{
    struct bench_state *state = buffer;

    switch (code) {
    case BENCH_REMOVE:
        remove_adapter();
        return complete(irp, STATUS_SUCCESS, 0);
    case BENCH_INSERT:
        insert();
        return complete(irp, STATUS_SUCCESS, 0);
    case BENCH_VERSION:
        if (in < 2 * sizeof(ULONG))
            return complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
        RtlCopyMemory(&version, buffer, 2 * sizeof(ULONG));
        return complete(irp, STATUS_SUCCESS, 0);
    case BENCH_STATE:
        if (out < sizeof *state)
            return complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
        RtlZeroMemory(state, sizeof *state);
        state->inserted = inserted;
        state->opened = application.opener != NULL;
        state->media = media;
        state->reading = count_reads(&application);
        state->dropped = dropped;
        RtlCopyMemory(state->mac, mac, sizeof mac);
        return complete(irp, STATUS_SUCCESS, sizeof *state);
    }
    return complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
}

static NTSTATUS WINAPI on_control(DEVICE_OBJECT *device, IRP *irp)
{
    IO_STACK_LOCATION *request = IoGetCurrentIrpStackLocation(irp);
    ULONG code = request->Parameters.DeviceIoControl.IoControlCode;
    ULONG in = request->Parameters.DeviceIoControl.InputBufferLength;
    ULONG out = request->Parameters.DeviceIoControl.OutputBufferLength;
    void *buffer = irp->AssociatedIrp.SystemBuffer;

    if (end_of(device) == &application)
        return control_adapter(irp, code, buffer, in, out);
    if (!end_of(device))
        return control_bench(irp, code, buffer, in, out);
    return complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
}

/*
 * One opener at a time. The real driver refuses the second one's CreateFile with ERROR_GEN_FAILURE, 31. Wine does not
 * wait for the answer to a create request, so here whatever the second one asks for is refused, with the same error.
 */
static NTSTATUS WINAPI on_create(DEVICE_OBJECT *device, IRP *irp)
{
    struct end *end = end_of(device);

    if (end && end->opener)
        return complete(irp, STATUS_UNSUCCESSFUL, 0);
    if (end)
        end->opener = IoGetCurrentIrpStackLocation(irp)->FileObject;
    return complete(irp, STATUS_SUCCESS, 0);
}

static NTSTATUS WINAPI on_close(DEVICE_OBJECT *device, IRP *irp)
{
    struct end *end = end_of(device);

    if (end && !is_second(end, irp)) {
        if (end == &application)
            media = FALSE;
        abort_reads(end);
        discard_frames(end);
        end->opener = NULL;
    }
    return complete(irp, STATUS_SUCCESS, 0);
}

/* The driver. */

static void prepare(struct end *end, struct end *other)
{
    end->other = other;
    InitializeListHead(&end->frames);
    InitializeListHead(&end->reads);
}

static NTSTATUS make_device(DRIVER_OBJECT *driver, const WCHAR *name, struct end *end)
{
    UNICODE_STRING device_name;
    DEVICE_OBJECT *device;
    NTSTATUS status;

    RtlInitUnicodeString(&device_name, name);
    status = IoCreateDevice(driver, sizeof end, &device_name, FILE_DEVICE_UNKNOWN, 0, FALSE, &device);
    if (status)
        return status;
    *(struct end **)device->DeviceExtension = end;
    device->Flags |= DO_BUFFERED_IO;
    device->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

static NTSTATUS make_link(const WCHAR *link, const WCHAR *device)
{
    UNICODE_STRING link_name, device_name;

    RtlInitUnicodeString(&link_name, link);
    RtlInitUnicodeString(&device_name, device);
    return IoCreateSymbolicLink(&link_name, &device_name);
}

NTSTATUS WINAPI DriverEntry(DRIVER_OBJECT *driver, UNICODE_STRING *registry_path)
{
    NTSTATUS status;

    (void)registry_path;
    KeInitializeSpinLock(&lock);
    prepare(&application, &stack);
    prepare(&stack, &application);

    driver->MajorFunction[IRP_MJ_CREATE] = on_create;
    driver->MajorFunction[IRP_MJ_CLOSE] = on_close;
    driver->MajorFunction[IRP_MJ_READ] = on_read;
    driver->MajorFunction[IRP_MJ_WRITE] = on_write;
    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = on_control;

    if ((status = make_device(driver, DEVICE(TAP_DEVICE), &application)) ||
        (status = make_device(driver, DEVICE(TAP_STACK_DEVICE), &stack)) ||
        (status = make_device(driver, DEVICE(TAP_BENCH_DEVICE), NULL)) ||
        (status = make_link(LINK(TAP_STACK_DEVICE), DEVICE(TAP_STACK_DEVICE))) ||
        (status = make_link(LINK(TAP_BENCH_DEVICE), DEVICE(TAP_BENCH_DEVICE))))
        return status;
    insert();
    return STATUS_SUCCESS;
}
