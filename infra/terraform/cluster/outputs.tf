output "jobs" {
  description = "The Flink deployments."
  value       = keys(local.jobs)
}
