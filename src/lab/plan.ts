/** What a topology is on one machine, as data: namespaces, link ends, and the commands that set everything up. Pure. */
import { namespacePrefix } from './run-record.ts';
import type { LinkEnds } from './lab-link.ts';
import type { Host, Link, Topology } from './topology.ts';

export interface Command {
  readonly program: 'ip' | 'nft';
  readonly args: readonly string[];
  readonly input?: string;
}

export interface Plan {
  readonly namespaces: readonly string[];
  /** Before the links, since a link's interface is plugged into a switch. */
  readonly switches: readonly Command[];
  readonly links: readonly { readonly link: Link; readonly ends: LinkEnds }[];
  /** After the links: cables, addresses, routes, NAT, what is blocked. */
  readonly hosts: readonly Command[];
}

/** As many frames as a link can hold back, so that only the link's own queue drops. */
const TRANSMIT_FRAMES = '10000';

export function hostNamespace(run: string, host: string): string {
  return `${namespacePrefix(run)}host-${host}`;
}

export function planTopology(topology: Topology, run: string): Plan {
  const fabric = `${namespacePrefix(run)}fabric`;
  const bridge = (name: string) => `br-${topology.switches.indexOf(name)}`;
  const links = [...topology.links.values()].map((link, index) => ({
    link,
    ends: link.ends.map((end, side) => linkEnd(end, link, `l${index}-${side}`)) as unknown as LinkEnds,
  }));

  function linkEnd(end: string, link: Link, port: string): LinkEnds[number] {
    const host = topology.hosts.get(end);
    const plugged = host?.interfaces.find((entry) => entry.on === link.name);
    return host && plugged ? { namespace: hostNamespace(run, end), interface: plugged.name } : { namespace: fabric, interface: port };
  }

  const plugs = links.flatMap(({ link, ends }) =>
    link.ends.flatMap((end, side) => {
      const there = ends[side];
      return topology.switches.includes(end) && there
        ? [ip(fabric, 'link', 'set', there.interface, 'master', bridge(end), 'txqueuelen', TRANSMIT_FRAMES, 'up')]
        : [];
    }),
  );
  let cables = 0;
  const hosts = [...topology.hosts.values()].flatMap((host) => {
    const namespace = hostNamespace(run, host.name);
    const wires = host.interfaces
      .filter((entry) => topology.switches.includes(entry.on))
      .flatMap((entry) => {
        const port = `c${cables++}`;
        return [
          ip(namespace, 'link', 'add', entry.name, 'type', 'veth', 'peer', 'name', port, 'netns', fabric),
          ip(fabric, 'link', 'set', port, 'master', bridge(entry.on), 'up'),
        ];
      });
    return [...wires, ...hostCommands(host, namespace)];
  });

  return {
    namespaces: [fabric, ...[...topology.hosts.keys()].map((name) => hostNamespace(run, name))],
    switches: topology.switches.flatMap((name) => [
      ip(fabric, 'link', 'add', bridge(name), 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0', 'mcast_snooping', '0'),
      ip(fabric, 'link', 'set', bridge(name), 'up'),
    ]),
    links,
    hosts: [...plugs, ...hosts],
  };
}

/** Drops UDP, both ways, on every interface of a host: silently, as a firewall does, and before the host itself sees it. */
export function blockUdpCommand(host: Host, namespace: string, blocked: boolean): Command {
  const devices = host.interfaces.map((entry) => `"${entry.name}"`).join(', ');
  const chain = (hook: string) => `chain ${hook} { type filter hook ${hook} devices = { ${devices} } priority filter; meta l4proto udp drop; }\n`;
  const replace = 'add table netdev selvedge_udp\ndelete table netdev selvedge_udp\n';
  return inside(namespace, blocked ? `${replace}table netdev selvedge_udp {\n${chain('ingress')}${chain('egress')}}\n` : replace);
}

function hostCommands(host: Host, namespace: string): Command[] {
  const commands = [ip(namespace, 'link', 'set', 'lo', 'up')];
  for (const entry of host.interfaces) {
    commands.push(ip(namespace, 'link', 'set', entry.name, 'txqueuelen', TRANSMIT_FRAMES, 'up'));
    if (entry.address !== null)
      commands.push(ip(namespace, 'address', 'add', entry.address, 'dev', entry.name, ...(entry.address.includes(':') ? ['nodad'] : [])));
  }
  for (const route of host.routes) commands.push(ip(namespace, 'route', 'add', route.to, 'via', route.via));
  if (host.forward) commands.push(forwardCommand(namespace));
  if (host.nat !== null)
    commands.push(
      inside(namespace, `table inet selvedge_nat {\nchain post { type nat hook postrouting priority srcnat; oifname "${host.nat}" masquerade; }\n}\n`),
    );
  if (host.udpBlocked) commands.push(blockUdpCommand(host, namespace, true));
  return commands;
}

function forwardCommand(namespace: string): Command {
  const script =
    'echo 1 > /proc/sys/net/ipv4/ip_forward; if [ -e /proc/sys/net/ipv6/conf/all/forwarding ]; then echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; fi';
  return { program: 'ip', args: ['netns', 'exec', namespace, 'sh', '-c', script] };
}

function ip(namespace: string, ...args: readonly string[]): Command {
  return { program: 'ip', args: ['-n', namespace, ...args] };
}

/** nft in a namespace, its rules on standard input. */
function inside(namespace: string, rules: string): Command {
  return { program: 'ip', args: ['netns', 'exec', namespace, 'nft', '-f', '-'], input: rules };
}
