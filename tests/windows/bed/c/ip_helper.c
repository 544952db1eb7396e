/*
 * ip_helper.dll: a host's interfaces, routes and addresses behind the calls of iphlpapi.dll, as learn.microsoft.com
 * describes them (netioapi.h). Wine 8 has half of these calls, and none that changes anything.
 *
 * The host has three interfaces: a cable, a Wi-Fi that is there for the case that the cable is not, and the bed's TAP
 * adapter. They are kept in a file, so that every process of a Wine prefix sees the same host, and so that it outlives
 * them. Calls that begin with Bench are what a test does to the host; the others are Windows'.
 */
#define _WIN32_WINNT 0x0A00
#define NTDDI_VERSION 0x0A000000
#include <winsock2.h>
#include <ws2ipdef.h>
#include <windows.h>
#include <iphlpapi.h>
#include <netioapi.h>
#include <string.h>

#include "tap_bed.h"

#define EXPORT __declspec(dllexport)

#define MAX_ROUTES 128
#define MAX_ADDRESSES 32

#define KEEP ((ULONG)-1)    /* what InitializeIpInterfaceEntry leaves in a number: do not change it */
#define KEEP_FLAG ((BOOLEAN)-1)

#define ETHERNET_LUID(number) ((ULONG64)IF_TYPE_ETHERNET_CSMACD << 48 | (ULONG64)(number) << 24)

struct nic {
    GUID guid;
    NET_LUID luid;
    NET_IFINDEX index;
    WCHAR alias[32];
    ULONG automatic_metric;
    UCHAR octet;                  /* its network is 192.0.<octet>.0/24, and 2001:db8:<octet>::/64 */
    BOOLEAN has[2];               /* whether it has settings for IPv4, IPv6 */
    MIB_IPINTERFACE_ROW rows[2];  /* the settings */
};

enum { CABLE, WIFI, TAP, INTERFACES };

struct host {
    ULONG ready;
    struct nic interfaces[INTERFACES];
    ULONG route_count;
    MIB_IPFORWARD_ROW2 routes[MAX_ROUTES];
    ULONG address_count;
    MIB_UNICASTIPADDRESS_ROW addresses[MAX_ADDRESSES];
};

static struct host *host;
static HANDLE mutex;

/* The host and who may touch it. */

static void unlock(void)
{
    ReleaseMutex(mutex);
}

static void build_host(void);

static struct host *lock(void)
{
    WaitForSingleObject(mutex, INFINITE);
    if (!host->ready)
        build_host();
    return host;
}

BOOL WINAPI DllMain(HINSTANCE module, DWORD reason, LPVOID reserved)
{
    HANDLE file, section;

    (void)module;
    (void)reserved;
    if (reason != DLL_PROCESS_ATTACH)
        return TRUE;
    mutex = CreateMutexW(NULL, FALSE, L"Global\\softlan-bed-host");
    file = CreateFileW(L"C:\\softlan-bed-host", GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL,
                       OPEN_ALWAYS, 0, NULL);
    section = CreateFileMappingW(file, NULL, PAGE_READWRITE, 0, sizeof *host, NULL);
    host = section ? MapViewOfFile(section, FILE_MAP_ALL_ACCESS, 0, 0, sizeof *host) : NULL;
    return host != NULL;
}

/* Addresses. */

static BOOLEAN is_family(ADDRESS_FAMILY family)
{
    return family == AF_INET || family == AF_INET6;
}

static int place(ADDRESS_FAMILY family)
{
    return family == AF_INET6;
}

static UCHAR bits_of(ADDRESS_FAMILY family)
{
    return family == AF_INET ? 32 : 128;
}

static const UCHAR *bytes_of(const SOCKADDR_INET *address)
{
    return address->si_family == AF_INET ? (const UCHAR *)&address->Ipv4.sin_addr : address->Ipv6.sin6_addr.u.Byte;
}

static BOOLEAN share_prefix(const SOCKADDR_INET *one, const SOCKADDR_INET *other, UCHAR length)
{
    const UCHAR *a = bytes_of(one), *b = bytes_of(other);
    UCHAR rest = length % 8, mask = (UCHAR)(0xFF << (8 - rest));

    if (one->si_family != other->si_family || memcmp(a, b, length / 8))
        return FALSE;
    return !rest || ((a[length / 8] ^ b[length / 8]) & mask) == 0;
}

static BOOLEAN are_equal(const SOCKADDR_INET *one, const SOCKADDR_INET *other)
{
    return share_prefix(one, other, bits_of(one->si_family));
}

static SOCKADDR_INET ipv4(UCHAR a, UCHAR b, UCHAR c, UCHAR d)
{
    SOCKADDR_INET address;

    memset(&address, 0, sizeof address);
    address.si_family = AF_INET;
    address.Ipv4.sin_addr.S_un.S_un_b.s_b1 = a;
    address.Ipv4.sin_addr.S_un.S_un_b.s_b2 = b;
    address.Ipv4.sin_addr.S_un.S_un_b.s_b3 = c;
    address.Ipv4.sin_addr.S_un.S_un_b.s_b4 = d;
    return address;
}

/* 2001:db8:<network>::<last>, of the documentation's prefix (RFC 3849); without a network, :: itself. */
static SOCKADDR_INET ipv6(UCHAR network, UCHAR last)
{
    static const UCHAR documentation[4] = { 0x20, 0x01, 0x0D, 0xB8 };
    SOCKADDR_INET address;

    memset(&address, 0, sizeof address);
    address.si_family = AF_INET6;
    if (network) {
        memcpy(address.Ipv6.sin6_addr.u.Byte, documentation, sizeof documentation);
        address.Ipv6.sin6_addr.u.Byte[5] = network;
        address.Ipv6.sin6_addr.u.Byte[15] = last;
    }
    return address;
}

/* Interfaces. */

static struct nic *by_luid(ULONG64 luid)
{
    int i;

    for (i = 0; i < INTERFACES; i++)
        if (host->interfaces[i].luid.Value == luid)
            return &host->interfaces[i];
    return NULL;
}

static struct nic *by_index(NET_IFINDEX index)
{
    int i;

    for (i = 0; i < INTERFACES; i++)
        if (host->interfaces[i].index == index)
            return &host->interfaces[i];
    return NULL;
}

/* As Windows looks interfaces up: by the LUID, and by the index where that is zero. */
static struct nic *find_interface(NET_LUID luid, NET_IFINDEX index)
{
    return luid.Value ? by_luid(luid.Value) : by_index(index);
}

/* Find the settings that a caller's row is about; an error instead when there are none. */
static DWORD find_settings(const MIB_IPINTERFACE_ROW *row, struct nic **nic)
{
    if (!is_family(row->Family) || (!row->InterfaceLuid.Value && !row->InterfaceIndex))
        return ERROR_INVALID_PARAMETER;
    *nic = find_interface(row->InterfaceLuid, row->InterfaceIndex);
    if (!*nic)
        return ERROR_FILE_NOT_FOUND;
    return (*nic)->has[place(row->Family)] ? NO_ERROR : ERROR_NOT_FOUND;
}

EXPORT void WINAPI InitializeIpInterfaceEntry(MIB_IPINTERFACE_ROW *row)
{
    memset(row, 0, sizeof *row);
    row->MaxReassemblySize = row->MinRouterAdvertisementInterval = row->MaxRouterAdvertisementInterval = KEEP;
    row->AdvertisingEnabled = row->ForwardingEnabled = row->WeakHostSend = row->WeakHostReceive = KEEP_FLAG;
    row->UseAutomaticMetric = row->UseNeighborUnreachabilityDetection = KEEP_FLAG;
    row->ManagedAddressConfigurationSupported = row->OtherStatefulConfigurationSupported = KEEP_FLAG;
    row->AdvertiseDefaultRoute = row->DisableDefaultRoutes = KEEP_FLAG;
    row->RouterDiscoveryBehavior = (NL_ROUTER_DISCOVERY_BEHAVIOR)KEEP;
    row->DadTransmits = row->BaseReachableTime = row->RetransmitTime = row->PathMtuDiscoveryTimeout = KEEP;
    row->LinkLocalAddressBehavior = (NL_LINK_LOCAL_ADDRESS_BEHAVIOR)KEEP;
    row->LinkLocalAddressTimeout = row->SitePrefixLength = row->Metric = row->NlMtu = KEEP;
    memset(row->ZoneIndices, 0xFF, sizeof row->ZoneIndices);
}

EXPORT DWORD WINAPI GetIpInterfaceEntry(MIB_IPINTERFACE_ROW *row)
{
    struct nic *nic;
    DWORD error;

    lock();
    error = find_settings(row, &nic);
    if (!error)
        *row = nic->rows[place(row->Family)];
    unlock();
    return error;
}

static DWORD change_settings(const MIB_IPINTERFACE_ROW *row)
{
    ULONG smallest_mtu = row->Family == AF_INET ? 576 : 1280;
    struct nic *nic;
    MIB_IPINTERFACE_ROW *settings;
    DWORD error = find_settings(row, &nic);

    if (error)
        return error;
    if (row->SitePrefixLength > (row->Family == AF_INET ? 0 : 128)) /* yet Windows itself reports 64 for IPv4 */
        return ERROR_INVALID_PARAMETER;
    if (row->NlMtu != KEEP && (row->NlMtu < smallest_mtu || row->NlMtu > 1500))
        return ERROR_INVALID_PARAMETER;

    settings = &nic->rows[place(row->Family)];
    if (row->NlMtu != KEEP)
        settings->NlMtu = row->NlMtu;
    if (row->UseAutomaticMetric != KEEP_FLAG)
        settings->UseAutomaticMetric = row->UseAutomaticMetric;
    if (settings->UseAutomaticMetric)
        settings->Metric = nic->automatic_metric;
    else if (row->Metric != KEEP)
        settings->Metric = row->Metric;
    if (row->DisableDefaultRoutes != KEEP_FLAG)
        settings->DisableDefaultRoutes = row->DisableDefaultRoutes;
    return NO_ERROR;
}

EXPORT DWORD WINAPI SetIpInterfaceEntry(MIB_IPINTERFACE_ROW *row)
{
    DWORD error;

    lock();
    error = change_settings(row);
    unlock();
    return error;
}

EXPORT DWORD WINAPI ConvertInterfaceGuidToLuid(const GUID *guid, NET_LUID *luid)
{
    DWORD error = ERROR_INVALID_PARAMETER;
    int i;

    lock();
    for (i = 0; i < INTERFACES; i++)
        if (!memcmp(&host->interfaces[i].guid, guid, sizeof *guid)) {
            *luid = host->interfaces[i].luid;
            error = NO_ERROR;
        }
    unlock();
    return error;
}

EXPORT DWORD WINAPI ConvertInterfaceLuidToGuid(const NET_LUID *luid, GUID *guid)
{
    struct nic *nic;

    lock();
    nic = by_luid(luid->Value);
    if (nic)
        *guid = nic->guid;
    unlock();
    return nic ? NO_ERROR : ERROR_INVALID_PARAMETER;
}

EXPORT DWORD WINAPI ConvertInterfaceLuidToIndex(const NET_LUID *luid, NET_IFINDEX *index)
{
    struct nic *nic;

    lock();
    nic = by_luid(luid->Value);
    if (nic)
        *index = nic->index;
    unlock();
    return nic ? NO_ERROR : ERROR_INVALID_PARAMETER;
}

EXPORT DWORD WINAPI ConvertInterfaceIndexToLuid(NET_IFINDEX index, NET_LUID *luid)
{
    struct nic *nic;

    lock();
    nic = by_index(index);
    if (nic)
        *luid = nic->luid;
    unlock();
    return nic ? NO_ERROR : ERROR_FILE_NOT_FOUND;
}

EXPORT DWORD WINAPI ConvertInterfaceLuidToAlias(const NET_LUID *luid, WCHAR *alias, SIZE_T length)
{
    DWORD error = ERROR_INVALID_PARAMETER;
    struct nic *nic;

    lock();
    nic = by_luid(luid->Value);
    if (nic && (SIZE_T)lstrlenW(nic->alias) < length) {
        lstrcpyW(alias, nic->alias);
        error = NO_ERROR;
    }
    unlock();
    return error;
}

/* Routes. Their key is the interface, the prefix and the next hop. */

EXPORT void WINAPI InitializeIpForwardEntry(MIB_IPFORWARD_ROW2 *row)
{
    memset(row, 0, sizeof *row);
    row->ValidLifetime = row->PreferredLifetime = INFINITE;
    row->Loopback = row->AutoconfigureAddress = row->Publish = row->Immortal = TRUE;
    row->SitePrefixLength = (UCHAR)-1; /* not valid, like the next two: the caller has to choose */
    row->Metric = (ULONG)-1;
    row->Protocol = (NL_ROUTE_PROTOCOL)-1;
}

/* Find a route with the key of `row`; an error instead when the key is none, or there is no such route. */
static DWORD find_route(const MIB_IPFORWARD_ROW2 *row, ULONG *found)
{
    const IP_ADDRESS_PREFIX *prefix = &row->DestinationPrefix;
    ADDRESS_FAMILY family = prefix->Prefix.si_family;
    const struct nic *nic;
    ULONG i;

    if (!is_family(family) || prefix->PrefixLength > bits_of(family) || row->NextHop.si_family != family ||
        (!row->InterfaceLuid.Value && !row->InterfaceIndex))
        return ERROR_INVALID_PARAMETER;
    nic = find_interface(row->InterfaceLuid, row->InterfaceIndex);
    if (!nic)
        return ERROR_FILE_NOT_FOUND;
    for (i = 0; i < host->route_count; i++) {
        const MIB_IPFORWARD_ROW2 *route = &host->routes[i];

        if (route->InterfaceIndex == nic->index && route->DestinationPrefix.PrefixLength == prefix->PrefixLength &&
            are_equal(&route->DestinationPrefix.Prefix, &prefix->Prefix) && are_equal(&route->NextHop, &row->NextHop)) {
            *found = i;
            return NO_ERROR;
        }
    }
    return ERROR_NOT_FOUND;
}

static DWORD create_route(const MIB_IPFORWARD_ROW2 *row)
{
    const struct nic *nic;
    ULONG twin;
    DWORD error = find_route(row, &twin);

    if (error == NO_ERROR)
        return ERROR_OBJECT_ALREADY_EXISTS;
    if (error == ERROR_FILE_NOT_FOUND)
        return ERROR_NOT_FOUND;
    if (error != ERROR_NOT_FOUND)
        return error;
    if (row->PreferredLifetime > row->ValidLifetime || row->SitePrefixLength > row->DestinationPrefix.PrefixLength ||
        row->Metric == (ULONG)-1 || row->Protocol == (NL_ROUTE_PROTOCOL)-1)
        return ERROR_INVALID_PARAMETER;
    if (host->route_count == MAX_ROUTES)
        return ERROR_NOT_ENOUGH_MEMORY;

    nic = find_interface(row->InterfaceLuid, row->InterfaceIndex);
    host->routes[host->route_count] = *row;
    host->routes[host->route_count].InterfaceLuid = nic->luid;
    host->routes[host->route_count].InterfaceIndex = nic->index;
    host->route_count++;
    return NO_ERROR;
}

static void delete_route(ULONG which)
{
    MIB_IPFORWARD_ROW2 *gap = &host->routes[which];

    host->route_count--;
    memmove(gap, gap + 1, (host->route_count - which) * sizeof *gap);
    memset(&host->routes[host->route_count], 0, sizeof *gap); /* so that equal hosts are equal byte for byte */
}

EXPORT DWORD WINAPI CreateIpForwardEntry2(const MIB_IPFORWARD_ROW2 *row)
{
    DWORD error;

    lock();
    error = create_route(row);
    unlock();
    return error;
}

EXPORT DWORD WINAPI DeleteIpForwardEntry2(const MIB_IPFORWARD_ROW2 *row)
{
    ULONG which;
    DWORD error;

    lock();
    error = find_route(row, &which);
    if (!error)
        delete_route(which);
    unlock();
    return error;
}

EXPORT DWORD WINAPI GetIpForwardEntry2(MIB_IPFORWARD_ROW2 *row)
{
    ULONG which;
    DWORD error;

    lock();
    error = find_route(row, &which);
    if (!error)
        *row = host->routes[which];
    unlock();
    return error;
}

/* The route's metric and its interface's; nothing when it cannot be used. */
static BOOLEAN rank(const MIB_IPFORWARD_ROW2 *route, ULONG *metric)
{
    const struct nic *nic = by_luid(route->InterfaceLuid.Value);
    int family = place(route->DestinationPrefix.Prefix.si_family);

    if (!nic->has[family])
        return FALSE;
    if (route->DestinationPrefix.PrefixLength == 0 && nic->rows[family].DisableDefaultRoutes)
        return FALSE;
    *metric = route->Metric + nic->rows[family].Metric;
    return TRUE;
}

static const MIB_IPFORWARD_ROW2 *best_route(const SOCKADDR_INET *destination)
{
    const MIB_IPFORWARD_ROW2 *best = NULL;
    ULONG best_metric = 0, metric, i;

    for (i = 0; i < host->route_count; i++) {
        const MIB_IPFORWARD_ROW2 *route = &host->routes[i];
        const IP_ADDRESS_PREFIX *prefix = &route->DestinationPrefix;

        if (!share_prefix(&prefix->Prefix, destination, prefix->PrefixLength) || !rank(route, &metric))
            continue;
        if (!best || prefix->PrefixLength > best->DestinationPrefix.PrefixLength ||
            (prefix->PrefixLength == best->DestinationPrefix.PrefixLength && metric < best_metric)) {
            best = route;
            best_metric = metric;
        }
    }
    return best;
}

EXPORT DWORD WINAPI GetBestRoute2(NET_LUID *luid, NET_IFINDEX index, const SOCKADDR_INET *source,
                                  const SOCKADDR_INET *destination, ULONG options, MIB_IPFORWARD_ROW2 *route,
                                  SOCKADDR_INET *best_source)
{
    const MIB_IPFORWARD_ROW2 *best;
    ULONG i;

    (void)source;
    (void)options;
    if (!destination || !is_family(destination->si_family) || !route || !best_source)
        return ERROR_INVALID_PARAMETER;
    if (luid || index) /* to ask for the best of one interface: nobody does */
        return ERROR_NOT_SUPPORTED;

    lock();
    best = best_route(destination);
    if (best) {
        *route = *best;
        memset(best_source, 0, sizeof *best_source);
        best_source->si_family = destination->si_family;
        for (i = host->address_count; i-- > 0;)
            if (host->addresses[i].InterfaceIndex == best->InterfaceIndex &&
                host->addresses[i].Address.si_family == destination->si_family)
                *best_source = host->addresses[i].Address;
    }
    unlock();
    return best ? NO_ERROR : ERROR_NETWORK_UNREACHABLE;
}

/* Tables, which the caller gives back. */

/* Copy the rows of a family; whatever the type of a table, its rows begin 8 bytes behind their number. */
static DWORD copy_table(void **table, const void *rows, ULONG count, SIZE_T size, SIZE_T family_at, ADDRESS_FAMILY family)
{
    const UCHAR *row = rows;
    UCHAR *next;
    ULONG *kept;

    *table = HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, 8 + count * size);
    if (!*table)
        return ERROR_NOT_ENOUGH_MEMORY;
    kept = *table;
    next = (UCHAR *)*table + 8;
    for (; count--; row += size)
        if (family == AF_UNSPEC || *(const ADDRESS_FAMILY *)(row + family_at) == family) {
            memcpy(next, row, size);
            next += size;
            ++*kept;
        }
    return NO_ERROR;
}

EXPORT DWORD WINAPI GetIpForwardTable2(ADDRESS_FAMILY family, MIB_IPFORWARD_TABLE2 **table)
{
    DWORD error;

    if (family != AF_UNSPEC && !is_family(family))
        return ERROR_INVALID_PARAMETER;
    lock();
    error = copy_table((void **)table, host->routes, host->route_count, sizeof *host->routes,
                       offsetof(MIB_IPFORWARD_ROW2, DestinationPrefix), family);
    unlock();
    return error;
}

EXPORT DWORD WINAPI GetUnicastIpAddressTable(ADDRESS_FAMILY family, MIB_UNICASTIPADDRESS_TABLE **table)
{
    DWORD error;

    if (family != AF_UNSPEC && !is_family(family))
        return ERROR_INVALID_PARAMETER;
    lock();
    error = copy_table((void **)table, host->addresses, host->address_count, sizeof *host->addresses,
                       offsetof(MIB_UNICASTIPADDRESS_ROW, Address), family);
    unlock();
    return error;
}

EXPORT void WINAPI FreeMibTable(void *table)
{
    HeapFree(GetProcessHeap(), 0, table);
}

/* The host as a test finds it, and what a test does to it. */

static void add_route(const struct nic *nic, SOCKADDR_INET prefix, UCHAR length, SOCKADDR_INET next_hop)
{
    MIB_IPFORWARD_ROW2 row;

    InitializeIpForwardEntry(&row);
    row.InterfaceLuid = nic->luid;
    row.DestinationPrefix.Prefix = prefix;
    row.DestinationPrefix.PrefixLength = length;
    row.NextHop = next_hop;
    row.SitePrefixLength = 0;
    row.Metric = 256; /* as Windows gives its own routes */
    row.Protocol = RouteProtocolLocal;
    row.Loopback = FALSE;
    create_route(&row);
}

static void add_address(const struct nic *nic, SOCKADDR_INET address, UCHAR prefix_length)
{
    MIB_UNICASTIPADDRESS_ROW *row = &host->addresses[host->address_count];

    if (host->address_count == MAX_ADDRESSES)
        return;
    host->address_count++;
    memset(row, 0, sizeof *row);
    row->Address = address;
    row->InterfaceLuid = nic->luid;
    row->InterfaceIndex = nic->index;
    row->ValidLifetime = row->PreferredLifetime = INFINITE;
    row->OnLinkPrefixLength = prefix_length;
    row->DadState = IpDadStatePreferred;
}

static void add_interface(int which, NET_IFINDEX index, GUID guid, const WCHAR *alias, ULONG metric, UCHAR octet)
{
    struct nic *nic = &host->interfaces[which];
    int family;

    nic->guid = guid;
    nic->luid.Value = ETHERNET_LUID(index);
    nic->index = index;
    lstrcpyW(nic->alias, alias);
    nic->automatic_metric = metric;
    nic->octet = octet;
    for (family = 0; family < 2; family++) {
        MIB_IPINTERFACE_ROW *row = &nic->rows[family];

        nic->has[family] = TRUE;
        row->Family = family ? AF_INET6 : AF_INET;
        row->InterfaceLuid = nic->luid;
        row->InterfaceIndex = index;
        row->SitePrefixLength = 64;
        row->UseAutomaticMetric = TRUE;
        row->Metric = metric;
        row->NlMtu = 1500;
        row->Connected = TRUE;
    }
}

/* Connect an interface to its network, as with a router's DHCP and advertisements. */
static void plug_in(const struct nic *nic)
{
    UCHAR octet = nic->octet;

    add_address(nic, ipv4(192, 0, octet, 10), 24);
    add_address(nic, ipv6(octet, 0x10), 64);
    add_route(nic, ipv4(192, 0, octet, 0), 24, ipv4(0, 0, 0, 0));
    add_route(nic, ipv4(0, 0, 0, 0), 0, ipv4(192, 0, octet, 1));
    add_route(nic, ipv6(octet, 0), 64, ipv6(0, 0));
    add_route(nic, ipv6(0, 0), 0, ipv6(octet, 1));
}

static void build_host(void)
{
    static const GUID cable = { 0x5AFE1A40, 0x0004, 0x4000, { 0x80, 0x00, 'C', 'A', 'B', 'L', 'E', 0 } };
    static const GUID wifi = { 0x5AFE1A40, 0x0005, 0x4000, { 0x80, 0x00, 'W', 'I', 'F', 'I', 0, 0 } };
    static const GUID tap = { 0x5AFE1A40, 0x0001, 0x4000, { 0x80, 0x00, 'S', 'O', 'F', 'T', 'L', 'A' } }; /* TAP_GUID */

    memset(host, 0, sizeof *host);
    add_interface(CABLE, 4, cable, L"Ethernet", 25, 2);
    add_interface(WIFI, 5, wifi, L"Wi-Fi", 50, 3);
    add_interface(TAP, 7, tap, L"Ethernet 7", 35, 0);
    plug_in(&host->interfaces[CABLE]);
    plug_in(&host->interfaces[WIFI]);
    host->ready = 1;
}

/* Make the host as it was at first. */
EXPORT void WINAPI BenchReset(void)
{
    lock();
    build_host();
    unlock();
}

/* Pull an interface's cable, and all routes and addresses with it, or plug it in. */
EXPORT void WINAPI BenchPlug(NET_IFINDEX index, BOOL plugged)
{
    struct nic *nic;
    ULONG i;

    lock();
    nic = by_index(index);
    for (i = host->route_count; i-- > 0;)
        if (host->routes[i].InterfaceIndex == index)
            delete_route(i);
    for (i = host->address_count; i-- > 0;)
        if (host->addresses[i].InterfaceIndex == index) {
            host->address_count--;
            memmove(&host->addresses[i], &host->addresses[i + 1], (host->address_count - i) * sizeof *host->addresses);
        }
    if (plugged)
        plug_in(nic);
    nic->rows[0].Connected = nic->rows[1].Connected = (BOOLEAN)plugged;
    unlock();
}

/* Give an interface settings for IPv4 or IPv6, or take them from it. */
EXPORT void WINAPI BenchFamily(NET_IFINDEX index, ADDRESS_FAMILY family, BOOL has)
{
    lock();
    by_index(index)->has[place(family)] = (BOOLEAN)has;
    unlock();
}

/* Give an interface an address, as DHCP does at some time. */
EXPORT void WINAPI BenchAddress(NET_IFINDEX index, const SOCKADDR_INET *address, UCHAR prefix_length)
{
    lock();
    add_address(by_index(index), *address, prefix_length);
    unlock();
}
