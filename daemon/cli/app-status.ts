/** How `selvedge status` shows app networks: the tunnel, a line for each network, one for each peer, and what is not as it should be. */
import type { AppStatus } from './answers-app.ts';
import { formatBytes, formatSeconds, printable, printLine, printTable } from './output.ts';

export function printAppStatus({ tunnel, networks, peers, faults }: AppStatus): void {
  printLine();
  const { is_up, is_current, program, pid, engine, generation } = tunnel;
  const engineWords: Record<string, string> = { kernel: 'WireGuard of the kernel', user: 'WireGuard in user space' };
  printLine(
    is_up
      ? printable(
          `tunnel ${program} (process ${pid}), ${engineWords[engine ?? ''] ?? 'no engine yet'}, state ${generation}${is_current ? '' : ', being applied'}`,
        )
      : 'tunnel does not run',
  );
  printTable(['NETWORK', 'VNI', 'ADDRESS', 'MEMBERS', 'RECEIVED', 'SENT', 'REFUSED', 'MTU'], networks.map(networkRow));
  if (peers.length > 0) {
    printLine();
    printTable(['PEER', 'NETWORKS', 'PATH', 'ENDPOINT', 'HANDSHAKE', 'RECEIVED', 'SENT'], peers.map(peerRow));
  }
  for (const { code, what, why, remedy } of faults) {
    printLine();
    printLine(printable(`${what}: ${why} [${code}]`));
    printLine(printable(`  ${remedy}`));
  }
}

function networkRow({ name, vni, addresses, members, rx_bytes, tx_bytes, refused, mtu, mtu_why, attachments }: AppStatus['networks'][number]): string[] {
  const places = attachments.map((one) => `${one.addresses.join(' ')} (${one.name})`);
  const causes = Object.entries(refused).map(([cause, count]) => `${cause} ${count}`);
  return [
    name,
    String(vni),
    printable([...addresses, ...places].join(' ') || '-'),
    String(members),
    bytes(rx_bytes),
    bytes(tx_bytes),
    printable(causes.join(' ') || '-'),
    printable(`${mtu} (${mtu_why})`),
  ];
}

function peerRow({ node, name, networks, path, why, endpoint, handshake_ms, rx_bytes, tx_bytes }: AppStatus['peers'][number]): string[] {
  return [
    printable(name === node ? name : `${name} (${node})`),
    printable(networks.join(' ')),
    printable(why === '' ? path : `${path} (${why})`),
    printable(endpoint ?? '-'),
    handshake_ms === null ? 'never' : `${formatSeconds(handshake_ms / 1_000)} ago`,
    bytes(rx_bytes),
    bytes(tx_bytes),
  ];
}

function bytes(count: number | null): string {
  return count === null ? '-' : formatBytes(count);
}
