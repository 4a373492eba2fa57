/** A topology drawn as a tree that hangs from its tower (or its first host): switches are bars, shaped links say what they do. Pure. */
import type { Host, Link, Topology } from '../topology.ts';
import { formatQueue, formatRate } from '../units.ts';
import { escapeHtml, short } from './html.ts';

const COLUMN = 170;
const ROW = 92;
const BOX_WIDTH = 132;
const BOX_HEIGHT = 52;
const MARGIN = 12;

interface Vertex {
  readonly name: string;
  readonly host: Host | null;
  readonly depth: number;
  /** What leads here from the vertex above: a shaped link, or a plain cable. */
  readonly link: Link | null;
  readonly children: Vertex[];
  x: number;
}

export function topologyDiagram(topology: Topology): string {
  const root = treeOf(topology);
  let leaves = 0;
  const place = (vertex: Vertex): number => {
    const xs = vertex.children.map(place);
    vertex.x = xs.length === 0 ? MARGIN + COLUMN * leaves++ + COLUMN / 2 : ((xs[0] ?? 0) + (xs.at(-1) ?? 0)) / 2;
    return vertex.x;
  };
  place(root);
  const all = walk(root);
  const width = 2 * MARGIN + COLUMN * leaves;
  const height = 2 * MARGIN + ROW * Math.max(...all.map((vertex) => vertex.depth)) + BOX_HEIGHT;
  const edges = all.flatMap((vertex) => vertex.children.map((child) => edge(vertex, child))).join('');
  return `<svg class="diagram" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(topology.about || topology.name)}">${edges}${all.map(shape).join('')}</svg>`;
}

/** Breadth first, each thing once; what hangs together with nothing is left out. */
function treeOf({ hosts, links, switches }: Topology): Vertex {
  const neighbours = (name: string): { name: string; link: Link | null }[] => {
    const cables = [...hosts.values()].flatMap((host) =>
      host.interfaces
        .filter((entry) => switches.includes(entry.on))
        .flatMap((entry) => (host.name === name ? [entry.on] : entry.on === name ? [host.name] : [])),
    );
    const shaped = [...links.values()]
      .filter((link) => link.ends.includes(name))
      .map((link) => ({ name: link.ends[0] === name ? link.ends[1] : link.ends[0], link }));
    return [...cables.map((each) => ({ name: each, link: null })), ...shaped];
  };
  const first = [...hosts.values()].find((host) => host.role === 'tower') ?? [...hosts.values()][0];
  const root: Vertex = { name: first?.name ?? '', host: first ?? null, depth: 0, link: null, children: [], x: 0 };
  const seen = new Set([root.name]);
  for (const queue = [root]; queue.length > 0; ) {
    const vertex = queue.shift() as Vertex;
    for (const { name, link } of neighbours(vertex.name)) {
      if (seen.has(name)) continue;
      seen.add(name);
      const child: Vertex = { name, host: hosts.get(name) ?? null, depth: vertex.depth + 1, link, children: [], x: 0 };
      vertex.children.push(child);
      queue.push(child);
    }
  }
  return root;
}

function walk(vertex: Vertex): Vertex[] {
  return [vertex, ...vertex.children.flatMap(walk)];
}

function edge(above: Vertex, below: Vertex): string {
  const top = centre(above);
  const bottom = centre(below);
  const middle = (top + bottom) / 2;
  const { link } = below;
  const path = `<path class="${link ? 'shaped' : 'cable'}" d="M${short(above.x)} ${top}C${short(above.x)} ${middle} ${short(below.x)} ${middle} ${short(below.x)} ${bottom}"/>`;
  if (!link) return path;
  const { rate_bps, delay_us, queue, loss_ppm } = link.ends[0] === below.name ? link.forward : link.backward;
  const words = [
    rate_bps === null ? null : formatRate(rate_bps),
    delay_us === 0 ? null : `${delay_us / 1000} ms`,
    loss_ppm === 0 ? null : `${loss_ppm / 1e4} % lost`,
  ].filter((word) => word !== null);
  const label = (dy: number, text: string) => `<text class="link" x="${short(below.x)}" y="${middle + dy}">${escapeHtml(text)}</text>`;
  return `${path}${label(0, words.join(' · '))}${rate_bps === null ? '' : label(14, `${formatQueue(queue)} queue`)}`;
}

function shape(vertex: Vertex): string {
  const x = vertex.x;
  const y = centre(vertex);
  const text = (name: string, dy: number, words: string) => `<text class="${name}" x="${short(x)}" y="${y + dy}">${escapeHtml(words)}</text>`;
  const { host } = vertex;
  if (host === null)
    return `<rect class="switch" x="${short(x - BOX_WIDTH / 2)}" y="${y - 11}" width="${BOX_WIDTH}" height="22" rx="11"/>${text('small', 4, vertex.name)}`;
  const kind = host.role ?? (host.forward ? 'router' : 'host');
  const below = host.udpBlocked ? 'drops UDP' : host.role === 'node' ? `site ${host.site ?? ''}` : kind === host.name ? '' : kind;
  const box = `<rect class="host ${kind}" x="${short(x - BOX_WIDTH / 2)}" y="${y - BOX_HEIGHT / 2}" width="${BOX_WIDTH}" height="${BOX_HEIGHT}" rx="8"/>`;
  return `${box}${text('name', below === '' ? 5 : -2, host.name)}${text(host.udpBlocked ? 'small warn' : 'small', 16, below)}`;
}

function centre(vertex: Vertex): number {
  return MARGIN + BOX_HEIGHT / 2 + ROW * vertex.depth;
}
