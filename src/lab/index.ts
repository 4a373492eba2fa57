/** The lab's face: what the command line and other programs use. */
export { Lab, type LabOptions, type LabSpawnOptions } from './lab.ts';
export type { LabLink, LinkStats, Way, WayStats } from './lab-link.ts';
export type { LabProcess } from './lab-process.ts';
export { type LabEntry, listLabs } from './list.ts';
export { type LabRunOptions, runLab } from './run-lab.ts';
export { stepSchemas } from './steps/registry.ts';
export { loadTopology, type Shape, type Topology } from './topology.ts';
