package p2p_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/centram/centram/p2p/p2ptest"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A LAN for tests: a switch and the machines that are plugged into it, each a network namespace of its own. A namespace
// has no name anywhere: it goes with the last file and process that hold it, so that nothing is left behind even by a test
// that is killed.

// wiring says what the machines of a LAN are like.
type wiring struct {
	addrs     []string // of each; %d stands for the machine's number
	router    string   // to everywhere else, which is switched off; empty: there is none
	linkLocal bool     // IPv6 gives every interface an address of its own, as it does unless somebody forbids it
	noIPv6    bool     // the kernel is told to do without
	deaf      bool     // the interfaces cannot do multicast
	drops     []string // what the switch does not pass on: "multicast", "broadcast"
}

var usual = wiring{addrs: []string{"10.9.0.%d/24"}, linkLocal: true}

type lan struct {
	t      *testing.T
	wiring wiring
	fabric *os.File // the namespace of the switch
	hosts  []*machine
}

type machine struct {
	*lan
	number int
	ns     *os.File
}

// lanOf makes a LAN of n machines, numbered from 1, and waits until their addresses can be used.
func lanOf(t *testing.T, n int, w wiring) *lan {
	t.Helper()
	l := &lan{t: t, wiring: w, fabric: newNamespace(t)}
	l.inside(l.fabric, "make a switch", func() error {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "switch"}}); err != nil {
			return err
		}
		return switchOn("switch")
	})
	for i := range n {
		m := &machine{lan: l, number: i + 1, ns: newNamespace(t)}
		m.do("switch on lo", func() error { return switchOn("lo") })
		m.plug("eth0", l)
		l.hosts = append(l.hosts, m)
	}
	if slices.Contains(w.drops, "broadcast") {
		l.introduce()
	}
	for _, m := range l.hosts {
		m.settled("eth0")
	}
	return l
}

// plug connects a machine by a new interface. It may be another LAN than the machine's first.
func (m *machine) plug(name string, l *lan) {
	m.t.Helper()
	port := fmt.Sprintf("%d-%s", m.number, name)
	l.inside(l.fabric, "lay a cable", func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: name, PeerNamespace: netlink.NsFd(m.ns.Fd())}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		bridge, err := netlink.LinkByName("switch")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(veth, bridge); err != nil {
			return err
		}
		for _, kind := range l.wiring.drops {
			if err := noFlooding(veth, map[string]int{"multicast": unix.IFLA_BRPORT_MCAST_FLOOD, "broadcast": unix.IFLA_BRPORT_BCAST_FLOOD}[kind]); err != nil {
				return err
			}
		}
		return switchOn(port)
	})
	m.do("set up "+name, func() error {
		eth, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if l.wiring.deaf {
			if err := netlink.LinkSetMulticastOff(eth); err != nil {
				return err
			}
		}
		if l.wiring.noIPv6 {
			err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
			if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
				m.t.Skipf("IPv6 cannot be switched off here: %v", err)
			}
			if err != nil {
				return err
			}
		} else if !l.wiring.linkLocal {
			const none = 1 // IN6_ADDR_GEN_MODE_NONE
			if err := netlink.LinkSetIP6AddrGenMode(eth, none); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(eth); err != nil {
			return err
		}
		for _, a := range l.wiring.addrs {
			if err := address(netlink.AddrAdd, eth, fmt.Sprintf(a, m.number)); err != nil {
				return err
			}
		}
		if l.wiring.router == "" {
			return nil
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.ParseIP(fmt.Sprintf(l.wiring.router, m.number))})
	})
}

// switchOn sets an interface up, of the namespace that the caller is in.
func switchOn(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// address adds or removes one. Nobody else can have it, so it may be used at once.
func address(do func(netlink.Link, *netlink.Addr) error, link netlink.Link, a string) error {
	addr, err := netlink.ParseAddr(a)
	if err != nil {
		return err
	}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD
	}
	return do(link, addr)
}

// noFlooding lets a switch keep from a port what is for everybody.
func noFlooding(port netlink.Link, kind int) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(port.Attrs().Index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	info.AddRtAttr(kind, []byte{0})
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// introduce tells all machines each other's hardware addresses, which they could not ask for without broadcast.
func (l *lan) introduce() {
	hardware := map[*machine]net.HardwareAddr{}
	for _, m := range l.hosts {
		m.do("look at eth0", func() error {
			eth, err := netlink.LinkByName("eth0")
			if err == nil {
				hardware[m] = eth.Attrs().HardwareAddr
			}
			return err
		})
	}
	for _, m := range l.hosts {
		m.do("introduce the others", func() error {
			eth, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			for _, o := range l.hosts {
				n := &netlink.Neigh{LinkIndex: eth.Attrs().Index, State: netlink.NUD_PERMANENT, IP: o.ip(0), HardwareAddr: hardware[o]}
				if o == m {
					continue
				}
				if err := netlink.NeighSet(n); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// ip is the machine's i-th address of the wiring.
func (m *machine) ip(i int) net.IP {
	ip, _, err := net.ParseCIDR(fmt.Sprintf(m.wiring.addrs[i], m.number))
	if err != nil {
		m.t.Fatal(err)
	}
	return ip
}

// own is the address that IPv6 has made for the interface.
func (m *machine) own(name string) (ip net.IP) {
	m.do("look for the address of "+name, func() error {
		list, err := addresses(name)
		for _, a := range list {
			if a.IP.IsLinkLocalUnicast() {
				ip = a.IP
			}
		}
		return err
	})
	return ip
}

func addresses(name string) ([]netlink.Addr, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	return netlink.AddrList(link, netlink.FAMILY_ALL)
}

// settled waits until IPv6 has made sure that nobody else has the interface's addresses (RFC 4862 §5.4).
func (m *machine) settled(name string) {
	m.t.Helper()
	p2ptest.Eventually(m.t, 10*time.Second, "addresses that can be used", func() (ok bool) {
		m.do("look at the addresses", func() error {
			list, err := addresses(name)
			ok = !m.wiring.linkLocal || slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.IsLinkLocalUnicast() })
			for _, a := range list {
				ok = ok && a.Flags&unix.IFA_F_TENTATIVE == 0
			}
			return err
		})
		return ok
	})
}

// down and up switch an interface of the machine off and on, or remove it altogether.
func (m *machine) down(name string) { m.change(name, netlink.LinkSetDown) }
func (m *machine) up(name string)   { m.change(name, netlink.LinkSetUp) }
func (m *machine) lose(name string) { m.change(name, netlink.LinkDel) }

func (m *machine) change(name string, how func(netlink.Link) error) {
	m.t.Helper()
	m.do("change "+name, func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return how(link)
	})
}

// move gives an interface another address.
func (m *machine) move(name, from, to string) {
	m.t.Helper()
	m.change(name, func(link netlink.Link) error {
		return errors.Join(address(netlink.AddrDel, link, from), address(netlink.AddrAdd, link, to))
	})
}

// pull and mend break the machine's cable at the switch and put it right.
func (m *machine) pull() { m.port(netlink.LinkSetDown) }
func (m *machine) mend() { m.port(netlink.LinkSetUp) }

func (m *machine) port(how func(netlink.Link) error) {
	m.t.Helper()
	m.inside(m.fabric, "change a port", func() error {
		link, err := netlink.LinkByName(fmt.Sprintf("%d-eth0", m.number))
		if err != nil {
			return err
		}
		return how(link)
	})
}

// do calls f in the machine's namespace.
func (m *machine) do(what string, f func() error) {
	m.t.Helper()
	m.inside(m.ns, what, f)
}

func (l *lan) inside(ns *os.File, what string, f func() error) {
	l.t.Helper()
	if err := inside(ns, f); err != nil {
		l.t.Fatalf("%s: %v", what, err)
	}
}

// inside calls f in a namespace. A process that f starts stays in it.
func inside(ns *os.File, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // the thread would go on in the wrong network, and it must not end: its children would, too
		}
	}()
	return f()
}

func newNamespace(t *testing.T) *os.File {
	t.Helper()
	ns, err := makeNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

func makeNamespace() (*os.File, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(back)
	}
	return ns, err
}

// withNamespaces says whether t can go on here. Where only root may make network namespaces, it runs the test once more as
// the root of a user namespace, and reports what came of that. It skips the test where neither works, unless
// CENTRAM_REQUIRE_NETNS is set: then it fails it.
func withNamespaces(t *testing.T) bool {
	t.Helper()
	if testing.Short() {
		t.Skip("takes its time")
	}
	t.Parallel()
	ns, err := makeNamespace()
	if err == nil {
		ns.Close()
		return true
	}
	const again = "CENTRAM_NETNS_AGAIN"
	if os.Getenv(again) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
		cmd.Env = append(os.Environ(), again+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
			Pdeathsig:   syscall.SIGKILL,
		}
		out, failed := cmd.CombinedOutput()
		if cmd.ProcessState != nil { // else there are no user namespaces either
			t.Logf("as the root of a user namespace:\n%s", out)
			switch {
			case failed != nil:
				t.Error(failed)
			case strings.Contains(string(out), "--- SKIP: "+t.Name()+" "):
				t.Skip("skipped there")
			}
			return false
		}
		err = errors.Join(err, failed)
	}
	if os.Getenv("CENTRAM_REQUIRE_NETNS") != "" {
		t.Fatalf("no network namespaces: %v", err)
	}
	t.Skipf("no network namespaces here: %v", err)
	return false
}
