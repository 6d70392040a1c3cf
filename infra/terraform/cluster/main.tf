# Inside of Kubernetes: Flink's operator and the two jobs under it. Another state than the cluster itself, as a provider
# cannot be set up by what is made in the same run.

resource "kubernetes_namespace" "this" {
  metadata {
    name = "millrace"
  }
}

# A pod gets the AWS role of its service account (EKS Pod Identity).
resource "kubernetes_service_account" "job" {
  for_each = local.jobs

  metadata {
    name      = each.key
    namespace = kubernetes_namespace.this.metadata[0].name
  }
}

resource "helm_release" "operator" {
  name       = "flink-kubernetes-operator"
  repository = "https://archive.apache.org/dist/flink/flink-kubernetes-operator-${var.operator_version}/"
  chart      = "flink-kubernetes-operator"
  version    = var.operator_version
  namespace  = kubernetes_namespace.this.metadata[0].name

  values = [yamlencode({
    # Certificates for its webhook would need cert-manager; a wrong deployment is refused when it is carried out instead.
    webhook         = { create = false }
    watchNamespaces = [kubernetes_namespace.this.metadata[0].name]
    jobServiceAccount = {
      create = false
    }
  })]
}

# Flink makes and ends its own TaskManagers.
resource "kubernetes_role" "job" {
  metadata {
    name      = "flink-job"
    namespace = kubernetes_namespace.this.metadata[0].name
  }

  rule {
    api_groups = [""]
    resources  = ["pods", "configmaps"]
    verbs      = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
  }

  rule {
    api_groups = ["apps"]
    resources  = ["deployments"]
    verbs      = ["get", "list", "watch"]
  }
}

resource "kubernetes_role_binding" "job" {
  for_each = local.jobs

  metadata {
    name      = "flink-job-${each.key}"
    namespace = kubernetes_namespace.this.metadata[0].name
  }

  role_ref {
    api_group = "rbac.authorization.k8s.io"
    kind      = "Role"
    name      = kubernetes_role.job.metadata[0].name
  }

  subject {
    kind      = "ServiceAccount"
    name      = kubernetes_service_account.job[each.key].metadata[0].name
    namespace = kubernetes_namespace.this.metadata[0].name
  }
}

resource "kubernetes_manifest" "job" {
  for_each = local.jobs

  manifest = {
    apiVersion = "flink.apache.org/v1beta1"
    kind       = "FlinkDeployment"
    metadata   = { name = each.key, namespace = "millrace" }

    spec = {
      image          = var.image
      flinkVersion   = var.flink_version
      serviceAccount = each.key
      flinkConfiguration = merge(local.flink, each.value.configuration, {
        for name, folder in local.folders : name => "s3://${var.bucket}/flink/${each.key}/${folder}"
      })
      jobManager  = { replicas = 2, resource = { memory = "1536m", cpu = 0.5 } }
      taskManager = { resource = { memory = each.value.memory, cpu = each.value.cpu } }

      job = {
        jarURI      = "local:///opt/flink/opt/flink-python.jar"
        entryClass  = "org.apache.flink.client.python.PythonDriver"
        args        = ["-pyclientexec", "/millrace/.venv/bin/python", "-py", "/millrace/${each.value.script}"]
        parallelism = each.value.parallelism
        upgradeMode = "savepoint"
        state       = "running"
      }

      podTemplate = {
        spec = {
          containers = [{
            name = "flink-main-container"
            env  = [for name, value in merge(var.environment, { MILLRACE_SERVICE = each.key }) : { name = name, value = value }]
          }]
        }
      }
    }
  }

  depends_on = [helm_release.operator, kubernetes_role_binding.job]
}

locals {
  jobs = {
    # One slot a TaskManager: Python's parts in one process share one interpreter lock.
    admission = { script = "streams/admission_job.py", parallelism = var.admission_parallelism, memory = "4096m", cpu = 2, configuration = {
      "state.backend.type"                  = "rocksdb"
      "execution.checkpointing.incremental" = "true"
    } }
    # One writer: several would make several files of each hour and checkpoint.
    lake = { script = "streams/lake_job.py", parallelism = 1, memory = "3072m", cpu = 1, configuration = {
      "state.backend.type" = "hashmap"
    } }
  }

  flink = {
    "taskmanager.numberOfTaskSlots"                                         = "1"
    "python.execution-mode"                                                 = "thread"
    "python.executable"                                                     = "/millrace/.venv/bin/python"
    "python.client.executable"                                              = "/millrace/.venv/bin/python"
    "high-availability.type"                                                = "kubernetes"
    "execution.checkpointing.externalized-checkpoint-retention"             = "RETAIN_ON_CANCELLATION"
    "kubernetes.operator.job.restart.failed"                                = "true"
    "kubernetes.operator.savepoint.format.type"                             = "NATIVE"
    "kubernetes.operator.periodic.savepoint.interval"                       = "24h"
    "kubernetes.operator.job.upgrade.last-state.max.allowed.checkpoint.age" = "1h"
  }

  # Each job in a folder that only its role may use.
  folders = {
    "high-availability.storageDir"          = "ha"
    "execution.checkpointing.dir"           = "checkpoints"
    "execution.checkpointing.savepoint-dir" = "savepoints"
  }
}
