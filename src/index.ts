/**
 * Operating-system processes as jobs, for applications on Effect.
 *
 * @since 0.1.0
 */

export * as CgroupLimits from "./CgroupLimits.ts"
export * as JobConfig from "./JobConfig.ts"
export * as JobCoordinator from "./JobCoordinator.ts"
export * as JobError from "./JobError.ts"
export * as JobEvent from "./JobEvent.ts"
export * as JobId from "./JobId.ts"
export * as JobInfo from "./JobInfo.ts"
export * as JobSpec from "./JobSpec.ts"
export * as JobStatus from "./JobStatus.ts"
export * as NodeProcessSpawner from "./NodeProcessSpawner.ts"
export * as Output from "./Output.ts"
export * as OutputCursor from "./OutputCursor.ts"
export * as OutputStore from "./OutputStore.ts"
export * as ProcessSpawner from "./ProcessSpawner.ts"
export * as SimulatedProcesses from "./SimulatedProcesses.ts"
