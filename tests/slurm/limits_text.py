"""What ``scontrol -o show assoc_mgr`` prints."""

from __future__ import annotations

LIMITS = """Current Association Manager state
ClusterName=c Account=root UserName= ParentAccount= GrpJobs=N(3) GrpTRES=cpu=N(9),gres/gpu=16(4) MaxJobs= MaxWallPJ=
ClusterName=c Account=a UserName= ParentAccount=root(1) GrpJobs=4(3) GrpTRESMins=cpu=600(300) MaxWallPJ=120
ClusterName=c Account=a UserName=me(7) ParentAccount= GrpJobs=N(3) MaxJobs=2 MaxTRESPJ=node=1
ClusterName=c Account=a UserName=other(8) ParentAccount= MaxJobs=1
QOS=fast(3) GrpTRES=cpu=N(2) MaxWallPJ=5 Account Limits= a={MaxJobsPA=N(1)} User Limits= 7={MaxSubmitJobsPU=2(1)} 8={MaxSubmitJobsPU=2(2)}
QOS=slow(4) MaxWallPJ=1 Account Limits= User Limits=
"""  # noqa: E501
