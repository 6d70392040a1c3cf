# EKS: a few steady nodes for the stack, and GPU nodes on spot that come when work waits and go when none does. A GPU
# node that is taken away costs no request: its worker gives its work back, or another one finds it.

resource "aws_iam_role" "cluster" {
  name               = "${var.name}-cluster"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [local.assume["eks"]] })
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "arn:${var.partition}:iam::aws:policy/AmazonEKSClusterPolicy"
}

resource "aws_cloudwatch_log_group" "cluster" {
  # EKS writes to this name and no other.
  name              = "/aws/eks/${var.name}/cluster"
  retention_in_days = 30
  kms_key_id        = var.key_arn
}

resource "aws_eks_cluster" "this" {
  name                      = var.name
  version                   = var.kubernetes_version
  role_arn                  = aws_iam_role.cluster.arn
  enabled_cluster_log_types = ["api", "audit", "authenticator"]

  access_config {
    authentication_mode                         = "API"
    bootstrap_cluster_creator_admin_permissions = true
  }

  encryption_config {
    resources = ["secrets"]

    provider {
      key_arn = var.key_arn
    }
  }

  vpc_config {
    subnet_ids              = var.subnet_ids
    endpoint_private_access = true
    endpoint_public_access  = length(var.api_cidrs) > 0
    public_access_cidrs     = length(var.api_cidrs) > 0 ? var.api_cidrs : null
  }

  depends_on = [aws_iam_role_policy_attachment.cluster, aws_cloudwatch_log_group.cluster]
}

resource "aws_eks_addon" "this" {
  for_each = toset(["vpc-cni", "kube-proxy", "coredns", "eks-pod-identity-agent"])

  cluster_name = aws_eks_cluster.this.name
  addon_name   = each.key

  # Some of them run only once there are nodes.
  depends_on = [aws_eks_node_group.steady]
}

resource "aws_iam_role" "node" {
  name               = "${var.name}-node"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [local.assume["ec2"]] })
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset(["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryReadOnly"])

  role       = aws_iam_role.node.name
  policy_arn = "arn:${var.partition}:iam::aws:policy/${each.key}"
}

# One hop only: a pod does not reach the node's credentials, it has a role of its own or none.
resource "aws_launch_template" "node" {
  for_each = local.volumes_gib

  name = "${var.name}-${each.key}"

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size = each.value
      volume_type = "gp3"
      encrypted   = "true"
    }
  }
}

resource "aws_eks_node_group" "steady" {
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "steady"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = var.subnet_ids
  ami_type        = "AL2023_x86_64_STANDARD"
  instance_types  = var.steady.instance_types
  capacity_type   = "ON_DEMAND"

  launch_template {
    id      = aws_launch_template.node["steady"].id
    version = aws_launch_template.node["steady"].latest_version
  }

  scaling_config {
    desired_size = var.steady.nodes
    min_size     = var.steady.nodes
    max_size     = var.steady.nodes + 2
  }

  update_config {
    max_unavailable = 1
  }

  depends_on = [aws_iam_role_policy_attachment.node]
}

resource "aws_eks_node_group" "gpu" {
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "gpu"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = var.subnet_ids
  ami_type        = "AL2023_x86_64_NVIDIA"
  # Several types that serve alike: the more, the less often spot has none of them.
  instance_types = var.gpu.instance_types
  capacity_type  = "SPOT"
  labels         = { "millrace/role" = "worker" }

  # Only what asks for a GPU comes here.
  taint {
    key    = "nvidia.com/gpu"
    value  = "present"
    effect = "NO_SCHEDULE"
  }

  launch_template {
    id      = aws_launch_template.node["gpu"].id
    version = aws_launch_template.node["gpu"].latest_version
  }

  scaling_config {
    desired_size = var.gpu.min
    min_size     = var.gpu.min
    max_size     = var.gpu.max
  }

  update_config {
    max_unavailable_percentage = 50
  }

  lifecycle {
    # The autoscaler's business, by what `workers.plan` says.
    ignore_changes = [scaling_config[0].desired_size]
  }

  depends_on = [aws_iam_role_policy_attachment.node]
}

# A process of ours gets its role by the service account it runs as.
resource "aws_eks_pod_identity_association" "this" {
  for_each = var.identities

  cluster_name    = aws_eks_cluster.this.name
  namespace       = var.namespace
  service_account = each.key
  role_arn        = each.value
}

locals {
  volumes_gib = { steady = 80, gpu = var.gpu.volume_gib }

  assume = { for service in ["eks", "ec2"] : service => {
    Effect    = "Allow"
    Principal = { Service = "${service}.amazonaws.com" }
    Action    = "sts:AssumeRole"
  } }
}
