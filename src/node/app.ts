/** The app networks of this node: puts together what overlay needs of the node's state, mesh and configuration. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PROGRAM_VERSION } from '../api/program.ts';
import { limits } from '../base/limits.ts';
import type { NodeState } from '../enroll/state.ts';
import { AppNetworks, type AppNetworksOptions } from '../overlay/app-networks.ts';
import { FlowCarrier } from '../overlay/flow-carrier.ts';
import { TunnelProcess } from '../overlay/tunnel-process.ts';
import type { EngineChoice } from '../overlay/tunnel-wire.ts';
import type { Mesh } from '../peering/mesh.ts';
import { systemRandom, systemTimers } from '../transport/system.ts';

/** What a configuration may say; everything has a default. */
export interface AppConfig {
  readonly wireguardEngine?: EngineChoice;
  readonly wireguardPort?: number;
  readonly wireguardFwmark?: number;
  readonly wireguardKeyDays?: number;
  readonly underlayIpv4Only?: boolean;
  readonly tunnelSocket?: string;
}

/** The program, as it was built or installed. */
export const TUNNEL_PROGRAM = fileURLToPath(new URL('../../native/tunnel/build/selvedge-tunnel', import.meta.url));
const DAY_MS = 86_400_000;

/** Beside the sealed store: attachments, the tunnel's sockets, and its log. */
const files = { attachments: 'app-attachments.json', socket: 'tunnel.sock', carry: 'carry.sock', log: 'tunnel.log' } as const;

/** @throws store_damaged */
export function openApps(state: NodeState, mesh: Mesh, config: AppConfig, isReachable: boolean, log: AppNetworksOptions['log']): Promise<AppNetworks> {
  const { cluster, node, name } = state.identity;
  const socketPath = config.tunnelSocket ?? join(state.path, files.socket);
  const carryPath = join(dirname(socketPath), files.carry);
  return AppNetworks.open({
    program: `selvedge-tunnel ${PROGRAM_VERSION}`,
    self: { cluster, node, name },
    settings: {
      engine: config.wireguardEngine ?? 'auto',
      listenPort: config.wireguardPort ?? limits.wireguard_port_default,
      fwmark: config.wireguardFwmark ?? 0,
      isIpv4Only: config.underlayIpv4Only ?? false,
      keyAge_ms_max: config.wireguardKeyDays === undefined ? limits.wireguard_key_ms_max : config.wireguardKeyDays * DAY_MS,
      socketPath,
    },
    attachmentsPath: join(state.path, files.attachments),
    secrets: state.secrets,
    mesh,
    channels: () => mesh.status(),
    isReachable,
    starter: new TunnelProcess({ program: TUNNEL_PROGRAM, socketPath, carryPath, logPath: join(state.path, files.log) }),
    carrier: new FlowCarrier({ self: node, mesh, socketPath: carryPath, timers: systemTimers, random: systemRandom, log }),
    timers: systemTimers,
    random: systemRandom,
    log,
  });
}
