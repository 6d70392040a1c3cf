mock_provider "helm" {
  override_during = plan
}

mock_provider "kubernetes" {
  override_during = plan
}

variables {
  region      = "eu-central-1"
  kubernetes  = { name = "millrace", endpoint = "https://eks.example", certificate = "YQ==" }
  bucket      = "acme-millrace"
  image       = "registry.example/millrace:1"
  environment = { MILLRACE_BUCKET = "acme-millrace" }
}

run "jobs" {
  command = plan

  assert {
    condition     = toset(output.jobs) == toset(["admission", "lake"])
    error_message = "The stack has two Flink jobs."
  }
}
